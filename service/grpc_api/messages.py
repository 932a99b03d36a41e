"""The protocol's messages, from what protoc made of the .proto files beside this one."""

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

# One of our own: in the common pool are the same names where a process has one of the protocol's clients as well.
_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString((Path(__file__).parent / "descriptors.binpb").read_bytes()).file:
    _pool.Add(_file)


def message(name: str) -> Any:
    """A message's class by its full name."""
    return GetMessageClass(_pool.FindMessageTypeByName(name))


def methods(service: str) -> dict[str, tuple[Any, Any]]:
    """A service's methods by name: the classes of request and answer."""
    found = _pool.FindServiceByName(service).methods
    return {method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type)) for method in found}


ModelInferRequest = message("inference.ModelInferRequest")
ModelInferResponse = message("inference.ModelInferResponse")
