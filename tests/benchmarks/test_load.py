import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from benchmarks.load import measure_closed_loop

pytestmark = pytest.mark.anyio

METRICS = """
# TYPE mixer_cores gauge
mixer_cores 2
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
# TYPE mixer_engine_core_seconds counter
mixer_engine_core_seconds_total {engine}
# TYPE mixer_batch_size histogram
mixer_batch_size_bucket{{le="+Inf"}} {passes}
mixer_batch_size_count {passes}
mixer_batch_size_sum {images}
"""


class FakeService:
    """Answers at once; an image is refused if it says so. Each answer costs 10 ms of CPU, passes hold two images."""

    def __init__(self) -> None:
        self.received: Counter[bytes] = Counter()
        self.inside = self.most_inside = 0

    async def classify(self, request: web.Request) -> web.Response:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        body = await request.read()
        await asyncio.sleep(0)
        self.received[body] += 1
        self.inside -= 1
        return web.Response(status=429 if body == b"refuse" else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        images = self.received[b"a"] + self.received[b"b"]
        text = METRICS.format(cpu=images / 100, engine=images / 200, passes=images / 2, images=images)
        return web.Response(text=text)


@pytest.fixture
async def fake() -> AsyncIterator[tuple[FakeService, str]]:
    service = FakeService()
    app = web.Application()
    app.add_routes([web.post("/classify", service.classify), web.get("/metrics", service.metrics)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield service, site.name if not site.name.endswith(":0") else f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_figures_follow_from_what_the_server_counted(fake: tuple[FakeService, str]) -> None:
    service, base = fake
    row = await measure_closed_loop(f"{base}/classify", f"{base}/metrics", [b"a", b"b"], connections=3, seconds=0.3)
    assert row["errors"] == "none"
    assert row["mean batch"] == 2
    assert row["img per CPU-second"] == 100
    assert row["img per engine core-second"] == 200
    rate = row["img/s"]
    assert isinstance(rate, float)
    assert row["img/s/core allowed"] == pytest.approx(rate / 2, abs=0.1)
    assert service.most_inside <= 3
    assert abs(service.received[b"a"] - service.received[b"b"]) <= 6


async def test_refusals_are_errors_and_not_images(fake: tuple[FakeService, str]) -> None:
    _, base = fake
    row = await measure_closed_loop(f"{base}/classify", None, [b"refuse"], connections=1, seconds=0.1)
    assert row["img/s"] == 0
    assert isinstance(row["errors"], dict)
    assert row["errors"].keys() == {"429"}


async def test_a_dead_service_is_an_error_not_a_hang() -> None:
    row = await measure_closed_loop("http://127.0.0.1:9/classify", None, [b"a"], connections=1, seconds=0.1)
    assert isinstance(row["errors"], dict)
    assert row["errors"].keys() == {"ClientConnectorError"}
