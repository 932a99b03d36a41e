"""The messages are what the .proto files say, and those of the clients."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")

from service.grpc_api import messages

FOLDER = Path(messages.__file__).parent
SERVICES = (messages.SERVICE, messages.HEALTH)


def test_the_descriptors_are_those_of_the_proto_files(tmp_path: Path) -> None:
    """As `make proto` makes them."""
    protos = sorted(path.name for path in FOLDER.glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--descriptor_set_out={tmp_path / 'made'}"]
    subprocess.run([*command, *protos], check=True, cwd=FOLDER)
    assert (tmp_path / "made").read_bytes() == (FOLDER / "descriptors.binpb").read_bytes()


def below(message: Any) -> Iterator[Any]:
    """A message's descriptor and those of all in it."""
    yield message
    for field in message.fields:
        if field.message_type:
            yield from below(field.message_type)


def ours() -> dict[str, Any]:
    kinds = [kind for service in SERVICES for pair in messages.methods(service).values() for kind in pair]
    return {each.full_name: each for kind in kinds for each in below(kind.DESCRIPTOR)}


@pytest.mark.parametrize("name", sorted(ours()))
def test_a_message_is_the_clients_as_far_as_it_goes(name: str) -> None:
    """Of tritonclient and grpcio-health-checking, which were generated from the protocols' own files."""
    from google.protobuf import descriptor_pool  # noqa: PLC0415 - where the clients' are
    from grpc_health.v1 import health_pb2  # noqa: F401, PLC0415
    from tritonclient.grpc import service_pb2  # noqa: F401, PLC0415

    theirs = descriptor_pool.Default().FindMessageTypeByName(name)
    for field in ours()[name].fields:
        same = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (same.number, same.type, same.is_repeated), field.name
        if field.enum_type:
            values = {value.name: value.number for value in same.enum_type.values}
            assert {value.name: value.number for value in field.enum_type.values}.items() <= values.items()


def test_every_method_is_the_clients() -> None:
    from google.protobuf import descriptor_pool  # noqa: PLC0415 - where the clients' are
    from grpc_health.v1 import health_pb2  # noqa: F401, PLC0415
    from tritonclient.grpc import service_pb2  # noqa: F401, PLC0415

    for service in SERVICES:
        theirs = descriptor_pool.Default().FindServiceByName(service).methods_by_name
        for name, kinds in messages.methods(service).items():
            names = (theirs[name].input_type.full_name, theirs[name].output_type.full_name)
            assert tuple(kind.DESCRIPTOR.full_name for kind in kinds) == names
