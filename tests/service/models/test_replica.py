from pathlib import Path

import httpx
import pytest

from service.models.replica import Replica
from tests.doubles import EchoEngine, FailingEngine, level_png, replica_around
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


async def test_live_and_ready(client: httpx.AsyncClient, replica: Replica) -> None:
    assert (await client.get("/healthz/live")).status_code == 200
    assert replica.metrics.registry.get_sample_value("mixer_live") == 1
    assert (await client.get("/healthz/ready")).status_code == 200
    replica.drain()
    refused = await client.get("/healthz/ready")
    assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "draining")
    assert refused.headers["connection"] == "close"
    assert (await client.get("/healthz/live")).status_code == 200
    assert (await client.post("/v1/classify", content=level_png(1))).status_code == 200


async def test_ready_falls_with_the_engine_and_returns_with_it(tmp_path: Path) -> None:
    engine = FailingEngine()
    replica = replica_around(engine, tmp_path / "models")
    async with client_of(replica) as client:
        engine.broken = True
        assert (await client.post("/v1/classify", content=level_png(1))).status_code == 500
        refused = await client.get("/healthz/ready")
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "engine_failing")
        assert replica.metrics.registry.get_sample_value("mixer_ready") == 0
        engine.broken = False
        assert (await client.get("/healthz/ready")).status_code == 200
        assert replica.metrics.registry.get_sample_value("mixer_ready") == 1


async def test_a_dead_scheduler_is_neither_ready_nor_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        monkeypatch.setattr(replica.classifiers[0].scheduler, "_freeze", None)
        assert (await client.post("/v1/classify", content=level_png(1))).status_code == 503
        assert (await client.get("/healthz/ready")).json()["error"]["reason"] == "scheduler_stopped"
        assert (await client.get("/healthz/live")).status_code == 503
        assert replica.metrics.registry.get_sample_value("mixer_live") == 0
