"""MLPerf LoadGen and our generator, on a server whose latency is known."""

import asyncio

import pytest

from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from tests.benchmarks.load.fake_server import FakeServer, fake_server

pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not built for this platform")

from benchmarks.cross_check import loadgen

pytestmark = pytest.mark.anyio

LATENCY = 0.05  # seconds
IMAGES = [b"one", b"two"]


def _session(server: FakeServer) -> Session:
    server.seconds = LATENCY
    return Session(Target("fake", server.url, "raw"), Options(IMAGES, seconds=2, warmup=0.2, quiet=True))


async def test_single_stream() -> None:
    async with fake_server() as server:
        ours = await _session(server).closed("single-stream", 0, clients=1)
        other = await asyncio.to_thread(loadgen.single_stream, server.url, IMAGES, 2)
    for p50, rate in ((ours.latency.p50, ours.images_per_second), (other.p50_ms, other.images_per_second)):
        assert p50 is not None
        assert 50 <= p50 <= 100
        assert 10 <= rate <= 20.5
    assert server.received.keys() == set(IMAGES)


async def test_offline() -> None:
    async with fake_server() as server:
        ours = await _session(server).closed("offline", 0, clients=8)
        other = await asyncio.to_thread(loadgen.offline, server.url, IMAGES, 2, 8, 8 / LATENCY)
    for rate in (ours.images_per_second, other.images_per_second):
        assert 80 <= rate <= 164
    assert server.most_inside == 8


async def test_server() -> None:
    async with fake_server() as server:
        ours = await _session(server).open("server", 0, 100)
        other = await asyncio.to_thread(loadgen.server, server.url, IMAGES, 2, 32, 100, 0)
    for p50 in (ours.latency.p50, other.p50_ms):
        assert p50 is not None
        assert 50 <= p50 <= 100
    assert other.images_per_second == pytest.approx(100, rel=0.4)  # chance


async def test_both_show_a_stall_to_all_who_would_have_come_in_it() -> None:
    async with fake_server() as server:
        session = _session(server)
        p99s = []
        for running in (
            asyncio.ensure_future(session.open("server", 0, 100)),
            asyncio.ensure_future(asyncio.to_thread(loadgen.server, server.url, IMAGES, 2.2, 8, 100, 0)),
        ):
            before = server.received.total()
            while server.received.total() < before + 50:  # half a second: the warm-up is over
                await asyncio.sleep(0.01)
            await server.stall(1)
            figures = await running
            p99s.append(figures.p99_ms if isinstance(figures, loadgen.Figures) else figures.latency.p99)
    assert all(p99 is not None and 900 < p99 < 2000 for p99 in p99s), p99s


@pytest.mark.parametrize("head", [b"Content-Length: 2\r\nX: y", b"x: y\r\ncontent-length: 2"])
async def test_answers_are_read_to_their_end_however_they_come(head: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(5)
                for part in (b"HTTP/1.1 200 OK\r\n", head, b"\r\n\r\nh", b"i"):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        figures = await asyncio.to_thread(loadgen.single_stream, url, [b"image"], 0.3)
    assert figures.p50_ms is not None
    assert figures.p50_ms >= 4


async def test_queries_that_go_wrong_are_no_measurement() -> None:
    async with fake_server() as server:
        with pytest.raises(OSError, match=r"LoadGen's query .* went wrong: status 429"):
            await asyncio.to_thread(loadgen.single_stream, server.url, [b"refuse"], 0.1)
        # The first is asked before the clock runs, and good.
        with pytest.raises(OSError, match=r"LoadGen's query .* went wrong: status 429 \(.*: give a lower --rate\)"):
            await asyncio.to_thread(loadgen.single_stream, server.url, [b"good", *[b"refuse"] * 9], 0.3)
