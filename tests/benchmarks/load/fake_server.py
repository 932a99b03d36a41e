"""A server whose latency is known: it waits as long as it was told, and can stall altogether."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

METRICS = """
# TYPE mixer_cores gauge
mixer_cores 2
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1048576
# TYPE mixer_engine_core_seconds counter
mixer_engine_core_seconds_total {engine}
# TYPE mixer_batch_size histogram
mixer_batch_size_bucket{{le="+Inf"}} {passes}
mixer_batch_size_count {passes}
mixer_batch_size_sum {images}
"""


class FakeServer:
    """Each image costs 10 ms of CPU by its metrics, 5 ms of the engine's, and passes hold two; `refuse` is refused."""

    def __init__(self) -> None:
        self.url = ""
        self.seconds = 0.0  # that an answer takes
        self.answer = "{}"
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
        return web.Response(status=429 if body == b"refuse" else 200, text=self.answer)

    async def _metrics(self, _: web.Request) -> web.Response:
        images = sum(self.received.values())
        return web.Response(
            text=METRICS.format(cpu=images / 100, engine=images / 200, passes=images / 2, images=images)
        )


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """Serving on a port the kernel chose: POST anything, GET /metrics."""
    server = FakeServer()
    app = web.Application(client_max_size=2**24)
    app.add_routes([web.get("/metrics", server._metrics), web.post("/{path:.*}", server._classify)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
