import asyncio
import json
import shutil
from pathlib import Path

import httpx
import pytest

import service.lanes.pool
from service.bundles.bundle import BundleError
from service.errors import NotReady
from service.lanes.lane import LoadFailure
from service.models.replica import Replica
from tests.doubles import EchoEngine, FailingEngine, ThreadLanes, level_png, replica_around, started, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are replaced at once."""
    monkeypatch.setattr(service.lanes.pool, "_SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(service.lanes.pool, "_LONGEST_PAUSE", 0.001)


def gauge(replica: Replica, name: str) -> float | None:
    return replica.metrics.registry.get_sample_value(f"mixer_{name}")


async def until(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    async with asyncio.timeout(10):
        while (response := await client.get(path)).status_code != status:
            await asyncio.sleep(0.001)
    return response


async def test_live_and_ready(client: httpx.AsyncClient, replica: Replica) -> None:
    assert (await client.get("/healthz/live")).status_code == 200
    assert gauge(replica, "live") == 1
    assert (await client.get("/healthz/ready")).status_code == 200
    replica.drain()
    refused = await client.get("/healthz/ready")
    assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "draining")
    assert refused.headers["connection"] == "close"
    assert (await client.get("/healthz/live")).status_code == 200
    assert (await client.post("/v1/classify", content=level_png(1))).status_code == 200


async def test_what_it_counts_of_itself(client: httpx.AsyncClient, replica: Replica) -> None:
    assert (gauge(replica, "lanes"), gauge(replica, "lanes_ready"), gauge(replica, "lane_threads")) == (1, 1, 1)
    assert gauge(replica, "cores") == replica.cores
    assert gauge(replica, "inflight_images") == 0
    assert (gauge(replica, "ready"), gauge(replica, "draining")) == (1, 0)
    replica.drain()
    assert (gauge(replica, "ready"), gauge(replica, "draining")) == (0, 1)


async def test_a_replica_that_was_not_started_is_not_ready(replica: Replica) -> None:
    assert gauge(replica, "ready") == 0


async def test_ready_and_then_live_fall_with_the_last_lane_and_return_with_the_next(tmp_path: Path) -> None:
    engine = FailingEngine()
    replica = replica_around(engine, tmp_path / "models")
    async with client_of(replica) as client:
        engine.broken = True
        assert (await client.post("/v1/classify", content=level_png(1))).status_code == 500
        refused = await until(client, "/healthz/ready", 503)
        assert refused.json()["error"]["reason"] == "no_lane"
        assert gauge(replica, "ready") == 0
        assert (await until(client, "/healthz/live", 503)).json()["error"]["reason"] == "no_lane"
        assert gauge(replica, "live") == 0
        refused = await client.post("/v1/classify", content=level_png(1))
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "no_lane")
        engine.broken = False
        await until(client, "/healthz/ready", 200)
        await until(client, "/healthz/live", 200)
        assert (gauge(replica, "ready"), gauge(replica, "live")) == (1, 1)
        assert (await client.post("/v1/classify", content=level_png(1))).status_code == 200


async def test_while_a_lane_is_replaced_images_wait_for_it(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        spawn = replica.loader.spawn
        assert isinstance(spawn, ThreadLanes)
        for _ in range(3):
            spawn.started[-1].kill()
            answers = await asyncio.gather(*(client.post("/v1/classify", content=level_png(n)) for n in (5, 6)))
            assert [answer.json()["predictions"][0]["index"] for answer in answers] == [5, 6]
        assert (await client.get("/healthz/live")).status_code == 200


async def test_one_model_without_a_lane_makes_the_replica_unready(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bundle(tmp_path, name)
    async with started(replica_around(EchoEngine(), tmp_path)) as replica:
        replica.check_ready()
        spawn, (first, second) = replica.loader.spawn, replica.models.classifiers
        assert isinstance(spawn, ThreadLanes)
        spawn.started[1].kill()
        async with asyncio.timeout(10):
            while second.lanes.ready:
                await asyncio.sleep(0)
        assert first.lanes.ready == 1
        with pytest.raises(NotReady):
            replica.check_ready()
        replica.check_live()  # another is on its way


async def test_closing_answers_who_waits(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", max_batch_size=1)
    async with started(replica):
        classifier = replica.models.find()
        asked = [
            asyncio.create_task(classifier.classify(level_png(level), 1, classifier.promises.ticket(60)))
            for level in (3, 4, 5)
        ]
        await asyncio.sleep(0)
    assert [json.loads((await answer).answer)[0]["index"] for answer in asked] == [3, 4, 5]
    with pytest.raises(NotReady):
        await classifier.classify(level_png(6), 1, classifier.promises.ticket(60))


async def test_what_cannot_be_served_is_told_at_the_start(tmp_path: Path) -> None:
    failing = FailingEngine()
    failing.broken = True
    with pytest.raises(LoadFailure, match="poisoned"):
        await replica_around(failing, tmp_path / "models").start()
    (tmp_path / "models" / "echo" / "1" / "labels.txt").write_text("tampered")
    with pytest.raises(BundleError, match=r"labels\.txt: sha256"):
        await replica_around(EchoEngine(), tmp_path / "models").start()
    shutil.rmtree(tmp_path / "models" / "echo")
    with pytest.raises(BundleError, match=r"MIXER_MODEL_REPOSITORY .*holds no bundle"):
        await replica_around(EchoEngine(), tmp_path / "models").start()
