"""A server whose latency is known: it waits as long as it was told, and can stall altogether.

`python -m tests.benchmarks.load.fake_server FD` is one as a process, on a listening socket that it inherits.
"""

import asyncio
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

_METRICS = """
# TYPE mixer_cores gauge
mixer_cores 2
# TYPE mixer_engine_core_seconds counter
mixer_engine_core_seconds_total {engine}
# TYPE mixer_front_cpu_seconds counter
mixer_front_cpu_seconds_total {front}
# TYPE mixer_lane_restarts counter
mixer_lane_restarts_total{{reason="crash"}} {restarts}
mixer_lane_restarts_total{{reason="hang"}} {restarts}
# TYPE mixer_stage_duration_seconds histogram
mixer_stage_duration_seconds_bucket{{le="+Inf",stage="decode"}} {images}
mixer_stage_duration_seconds_count{{stage="decode"}} {images}
mixer_stage_duration_seconds_sum{{stage="decode"}} {decode}
mixer_stage_duration_seconds_bucket{{le="+Inf",stage="infer"}} {images}
mixer_stage_duration_seconds_count{{stage="infer"}} {images}
mixer_stage_duration_seconds_sum{{stage="infer"}} {infer}
# TYPE mixer_batch_size histogram
mixer_batch_size_bucket{{le="+Inf"}} {passes}
mixer_batch_size_count {passes}
mixer_batch_size_sum {images}
# TYPE process_start_time_seconds gauge
process_start_time_seconds {started}
"""


def metrics(images: float, started: float = 0.0) -> str:
    """After so many: each costs the engine 5 ms, the front 2, decoding 3; passes hold two and take 10.

    Every hundred images a lane crashes, and one hangs.
    """
    seconds = {"engine": images / 200, "front": images / 500, "decode": 3 * images / 1000, "infer": images / 100}
    return _METRICS.format(passes=images / 2, images=images, started=started, restarts=images // 100, **seconds)


class FakeServer:
    """Its metrics are `metrics`; `refuse` is refused."""

    def __init__(self) -> None:
        self.url = ""
        self.started = time.time()
        self.seconds = 0.0  # that an answer takes
        self.answer = "{}"
        self.moved_to = ""
        self.received: Counter[bytes] = Counter()
        self.headers: list[dict[str, str]] = []
        self.inside = self.most_inside = 0
        self._open = asyncio.Event()
        self._open.set()
        self._turns = asyncio.Semaphore(10**6)

    def one_at_a_time(self) -> None:
        """Work on one request after the other from now on."""
        self._turns = asyncio.Semaphore(1)

    async def stall(self, seconds: float) -> None:
        """Answer nobody for so long."""
        self._open.clear()
        await asyncio.sleep(seconds)
        self._open.set()

    async def _classify(self, request: web.Request) -> web.Response:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            body = await request.read()
            self.headers.append(dict(request.headers))
            async with self._turns:
                await asyncio.sleep(self.seconds)
            await self._open.wait()
            self.received[body] += 1
        finally:
            self.inside -= 1
        if self.moved_to:
            return web.Response(status=307, headers={"Location": self.moved_to})
        return web.Response(status=429 if body == b"refuse" else 200, text=self.answer)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=metrics(sum(self.received.values()), self.started))


@asynccontextmanager
async def fake_server(listening: socket.socket | None = None) -> AsyncIterator[FakeServer]:
    """Serving there or on a port the kernel chose: POST anything, GET /metrics."""
    server = FakeServer()
    app = web.Application(client_max_size=2**24)
    app.add_routes([web.get("/metrics", server._metrics), web.post("/{path:.*}", server._classify)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, listening or socket.create_server(("127.0.0.1", 0))).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def fake_server_thread() -> Iterator[FakeServer]:
    """On a thread of its own, for the generator is a process."""
    ready, over = threading.Event(), asyncio.Event()
    found: list[FakeServer] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with fake_server() as server:
            found.append(server)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


async def _serve_inherited() -> None:
    async with fake_server(socket.socket(fileno=int(sys.argv[1]))) as server:
        server.seconds = 0.01
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_inherited())
