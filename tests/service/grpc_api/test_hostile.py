"""What a hostile client does to the door itself, and a good one beside it."""

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from tests.doubles import EchoEngine, GatedEngine, level_png, replica_around

grpc = pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")

from service.grpc_api.messages import SERVICE  # noqa: E402
from tests.service.grpc_api import frames  # noqa: E402
from tests.service.grpc_api.calls import client_of, failure, files, levels  # noqa: E402
from tests.service.grpc_api.test_server import requests, until  # noqa: E402

pytestmark = pytest.mark.anyio

Code = grpc.StatusCode
INFER = f"/{SERVICE}/ModelInfer"


@pytest.mark.parametrize("path", [b"/\xff", INFER.encode() + b"\xc3", b"/" + b"\x80" * 100])
async def test_a_path_that_is_no_text_closes_the_door_to_nobody(path: bytes, tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        with frames.connect(client.port) as connection:
            for stream in range(1, 9, 2):
                connection.sendall(frames.headers(stream, path))
            await asyncio.to_thread(frames.await_pong, connection)
            assert levels(await client.infer(files(level_png(3)))) == [3]
        async with client.connect() as other:
            unknown = other.unary_unary(f"/{SERVICE}/RepositoryIndex")
            assert (await failure(unknown(b""))).code() == Code.UNIMPLEMENTED
            assert await other.unary_unary(f"/{SERVICE}/ServerLive")(b"")


async def test_headers_that_are_no_text_are_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        with frames.connect(client.port) as connection:
            secret = (b"x-api-key", b"secret\xff")
            connection.sendall(frames.headers(1, INFER.encode(), secret, flags=frames.END_STREAM | frames.END_HEADERS))
            await until(lambda: requests(replica))
    assert "secret" not in caplog.text


async def test_metadata_that_grows_when_it_is_inflated_is_refused(tmp_path: Path) -> None:
    """400,000 bytes in 4,000."""
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        with frames.connect(client.port) as connection:
            both = frames.END_STREAM | frames.END_HEADERS
            connection.sendall(frames.headers(1, INFER.encode(), flags=both, end=frames.KEPT))
            connection.sendall(frames.headers(3, INFER.encode(), flags=both, end=frames.AGAIN * 4000))
            await until(lambda: sum(requests(replica).values()) == 2)
            assert requests(replica) == {"400": 1, "431": 1}  # the first has no message
            assert levels(await client.infer(files(level_png(3)))) == [3]


async def test_who_sends_is_answered_among_those_who_send_nothing(tmp_path: Path) -> None:
    room = {"max_body_bytes": 2**20, "max_inflight_bytes": 2**20, "deadline_ms": 60_000}  # one message arrives at once
    replica = replica_around(EchoEngine(), tmp_path / "models", **room)
    async with client_of(replica) as client, client.connect() as other:
        silent = [other.stream_unary(INFER)() for _ in range(50)]
        await until(lambda: len(client.server._calls._inside) + sum(requests(replica).values()) >= len(silent))
        for level in range(3):
            assert levels(await client.infer(files(level_png(level)))) == [level]
        for call in silent:
            call.cancel()
        await until(lambda: not client.server._calls._inside)
        assert levels(await client.infer(files(level_png(4)))) == [4]


async def test_a_message_is_let_go_once_its_images_are_read(tmp_path: Path) -> None:
    """What is held is then what is charged."""
    engine = GatedEngine()
    settings = {"max_body_bytes": 2**23, "latency_target_ms": 60_000, "deadline_ms": 60_000}
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1, **settings)
    async with client_of(replica) as client:
        message = files(*[level_png(3) + bytes(100_000)] * 64).SerializeToString()
        tracemalloc.start()
        try:
            call = client.infer(message, timeout=60)
            await asyncio.to_thread(engine.entered.acquire)
            await until(lambda: replica.admission.inflight == 64)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        engine.gate.set()
        assert levels(await call) == [3] * 64
    assert held < 1.5 * len(message)
