import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from service.app import create_api, with_edge
from service.arrays import LogitBatch, PixelBatch
from tests.doubles import EchoEngine, FailingEngine, GatedEngine, level_png, mean_levels, replica_around, started
from tests.service.replicas import Upload, client_of, keep_busy, outcomes, rejections

pytestmark = pytest.mark.anyio


async def test_one_image_more_than_there_is_room_for_is_refused_at_once(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=2, max_inflight_images=2)
    async with client_of(replica) as client:
        inside = [asyncio.create_task(client.post("/v1/classify", content=level_png(level))) for level in (1, 2)]
        while replica.admission.inflight < 2:
            await asyncio.sleep(0)
        refused = await client.post("/v1/classify", content=level_png(3))
        assert refused.status_code == 429
        assert refused.json()["error"]["reason"] == "inflight_images"
        assert int(refused.headers["retry-after"]) >= 1
        engine.gate.set()
        assert [(await task).json()["predictions"][0]["index"] for task in inside] == [1, 2]
        assert (await client.post("/v1/classify", content=level_png(3))).status_code == 200
    assert outcomes(replica) == {"ok": 3, "rejected": 1}
    assert rejections(replica) == {"inflight_images": 1}


async def test_a_passed_deadline_is_504_and_its_ticket_is_dropped(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models")
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=level_png(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        late = await client.post("/v1/classify", content=level_png(2), headers={"x-deadline-ms": "250"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        engine.gate.set()
        assert (await first).status_code == 200
    assert engine.batch_sizes == [1]
    assert outcomes(replica) == {"ok": 1, "expired": 1}


async def test_what_cannot_be_answered_in_time_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    upload = Upload()
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=level_png(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        keep_busy(replica, 3)
        refused = await client.post("/v1/classify", content=upload, headers={"x-deadline-ms": "1000"})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "deadline")
        assert int(refused.headers["retry-after"]) in (2, 3)
        engine.gate.set()
        assert (await first).status_code == 200
    assert outcomes(replica) == {"ok": 1, "rejected": 1}
    assert not upload.begun


async def test_who_names_no_deadline_is_promised_the_target_unless_it_is_bulk(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1, latency_target_ms=300)
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=level_png(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        keep_busy(replica, 1)
        refused = await client.post("/v1/classify", content=level_png(2))
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "deadline")
        patient = [
            asyncio.create_task(client.post("/v1/classify", content=level_png(2), headers=headers))
            for headers in ({"x-priority": "bulk"}, {"x-deadline-ms": "4000"})
        ]
        while replica.admission.inflight < 3:
            await asyncio.sleep(0)
        engine.gate.set()
        assert [(await answer).status_code for answer in (first, *patient)] == [200] * 3


async def test_bytes_inside_are_bounded_by_what_has_come_and_not_by_what_is_announced(tmp_path: Path) -> None:
    engine = GatedEngine()
    image = level_png(1)
    replica = replica_around(
        engine, tmp_path / "models", max_body_bytes=2 * len(image), max_inflight_bytes=2 * len(image)
    )

    async def stalled() -> AsyncIterator[bytes]:
        yield image[:1]
        await asyncio.Event().wait()

    async with client_of(replica) as client:
        announces = {"content-length": str(2 * len(image))}
        slow = asyncio.create_task(client.post("/v1/classify", content=stalled(), headers=announces))
        first = asyncio.create_task(client.post("/v1/classify", content=image))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        refused = await client.post("/v1/classify", content=image + b"\0" * len(image))
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "inflight_bytes")
        second = asyncio.create_task(client.post("/v1/classify", content=image[:-1]))  # one byte is the stalled one's
        engine.gate.set()
        assert [response.status_code for response in await asyncio.gather(first, second)] == [200, 200]
        slow.cancel()


async def test_bulk_may_be_said(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/classify", content=level_png(1), headers={"x-priority": "bulk"})).status_code == 200
    refused = await client.post("/v1/classify", content=level_png(1), headers={"x-priority": "urgent"})
    assert refused.status_code == 400


async def test_every_image_of_a_form_is_let_in_and_ends_on_its_own(tmp_path: Path) -> None:
    replica = replica_around(FailingEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        parts = [level_png(66), b"no image", level_png(7), level_png(8)]
        form = [("image", (f"{number}.png", part)) for number, part in enumerate(parts)]
        results = (await client.post("/v1/classify", files=form)).json()["results"]
    assert [result.get("error", {}).get("code") for result in results] == ["internal", "unsupported_image", None, None]
    assert [result["predictions"][0]["index"] for result in results[2:]] == [7, 8]
    assert outcomes(replica) == {"ok": 2, "error": 1, "invalid": 1}
    echo = {"model": "echo", "version": "1"}
    assert replica.metrics.registry.get_sample_value("mixer_admitted_images_total", echo) == 4


async def test_the_images_of_a_form_yield_to_one_that_comes_alone(tmp_path: Path) -> None:
    passed: list[int] = []

    class Noting(GatedEngine):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            passed.extend(mean_levels(pixels))
            return super().run(pixels)

    engine = Noting()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    form = [("image", ("image", level_png(level))) for level in range(2, 10)]
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=level_png(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        passed.clear()
        many = asyncio.create_task(client.post("/v1/classify", files=form))
        while replica.admission.inflight < 9:
            await asyncio.sleep(0)
        alone = asyncio.create_task(client.post("/v1/classify", content=level_png(99)))
        while replica.admission.inflight < 10:
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, many, alone)
    assert passed == [2, 99, 3, 4, 5, 6, 7, 8, 9]


async def stalled_upload() -> AsyncIterator[bytes]:
    yield level_png(1)[:20]
    await asyncio.Event().wait()


async def test_a_stalled_upload_ends_with_its_deadline_and_is_told_that_it_was_the_upload(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", deadline_ms=200)
    async with client_of(replica) as client, asyncio.timeout(20):
        response = await client.post("/v1/classify", content=stalled_upload())
    assert response.status_code == 504
    assert response.json()["error"]["reason"] == "upload"
    assert outcomes(replica) == {"expired": 1}


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models")
    async with started(replica):
        app = with_edge(create_api(replica))
        left: list[Callable[[], None]] = []
        scope = {
            "type": "http", "method": "POST", "path": "/v1/classify", "raw_path": b"/v1/classify", "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "root_path": "", "mixer.on_leave": left.append,
        }  # fmt: skip
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": level_png(1), "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        serving = asyncio.create_task(app(scope, receive, send))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        left[0]()
        await serving
        assert replica.admission.inflight == 0
        assert sent[0]["status"] == 499
        engine.gate.set()
    assert outcomes(replica) == {"cancelled": 1}
