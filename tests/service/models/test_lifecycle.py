import asyncio
import gc
import hashlib
import json
import shutil
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.app import build_replica
from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import Bundle
from service.engines.choice import Build
from service.errors import NotLoaded, NotReady, UnknownModel
from service.metrics import Metrics
from service.models.replica import Replica
from service.settings import Settings
from tests.doubles import EchoEngine, level_png, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio

ADMIN = {"x-api-key": "an admin's"}


class Workshop:
    """Builds an engine for each bundle, and says what happened meanwhile."""

    def __init__(self) -> None:
        self.building = 0
        self.most_building = 0
        self.passing = 0
        self.most_passing = 0
        self.built: list[str] = []  # name/version
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.broken = False

    def engines(self, bundle: Bundle, threads: int, settings: Settings) -> dict[str, list[Build]]:
        self.built.append(f"{bundle.manifest.name}/{bundle.manifest.version}")
        return {"double": [self._build]}

    def _build(self) -> EchoEngine:
        self.building += 1
        self.most_building = max(self.most_building, self.building)
        self.entered.release()
        assert self.gate.wait(timeout=30), "the test never opened the gate"
        self.building -= 1
        engine = BrokenEngine() if self.broken else WatchedEngine(self)
        self.last = weakref.ref(engine)
        return engine


class WatchedEngine(EchoEngine):
    def __init__(self, workshop: Workshop) -> None:
        super().__init__()
        self._workshop = workshop

    def run(self, pixels: PixelBatch) -> LogitBatch:
        self._workshop.passing += 1
        self._workshop.most_passing = max(self._workshop.most_passing, self._workshop.passing)
        logits = super().run(pixels)
        self._workshop.passing -= 1
        return logits


class BrokenEngine(EchoEngine):
    def run(self, pixels: PixelBatch) -> LogitBatch:
        return np.zeros_like(super().run(pixels))


def build(workshop: Workshop, repository: Path, **settings: object) -> Replica:
    keys = repository.parent / "admin-keys"
    keys.write_text(hashlib.sha256(ADMIN["x-api-key"].encode()).hexdigest())
    settings = {"admin_keys_file": keys} | settings
    replica = build_replica(Settings(model_repository=repository, **settings), Metrics(), workshop.engines)
    workshop.built.clear()
    return replica


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@asynccontextmanager
async def serving(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(replica) as client:
        client.headers.update(ADMIN)
        yield client


def loaded(replica: Replica) -> list[str]:
    return [f"{c.manifest.name}/{c.manifest.version}" for c in replica.classifiers]


def info(replica: Replica) -> set[str]:
    return {
        f"{sample.labels['model']}/{sample.labels['version']}"
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_model_info"
    }


def corrupt(bundle: Path) -> None:
    (bundle / "labels.txt").write_text("tampered")


async def model_that_answers(client: httpx.AsyncClient, query: str = "") -> str:
    response = await client.post(f"/v1/classify{query}", content=level_png(7))
    assert response.status_code == 200, response.text
    assert response.json()["predictions"][0]["index"] == 7
    return "{name}/{version}".format(**response.json()["model"])


async def states(client: httpx.AsyncClient, **body: object) -> dict[str, tuple[str, str]]:
    response = await client.post("/v2/repository/index", json=body)
    assert response.status_code == 200
    return {f"{state['name']}/{state['version']}": (state["state"], state["reason"]) for state in response.json()}


async def test_several_versions_of_several_models_at_once(workshop: Workshop, repository: Path) -> None:
    for name, version in (("a", "1"), ("b", "9"), ("b", "10")):
        write_bundle(repository, name, version)
    replica = build(workshop, repository, models="b/9,b,a")
    assert loaded(replica) == ["b/10", "b/9", "a/1"]
    assert info(replica) == {"b/10", "b/9", "a/1"}
    async with serving(replica) as client:
        assert await model_that_answers(client) == "b/10"
        assert await model_that_answers(client, "?version=9") == "b/9"
        assert await model_that_answers(client, "?model=b") == "b/10"
        assert await model_that_answers(client, "?model=b&version=9") == "b/9"
        assert await model_that_answers(client, "?model=a") == "a/1"
        assert (await client.post("/v1/classify?version=1", content=level_png(1))).status_code == 404
        assert replica.metrics.registry.get_sample_value("mixer_images_total", {"model": "b", "outcome": "ok"}) == 4


async def test_a_reload_serves_what_a_fresh_start_would(workshop: Workshop, repository: Path) -> None:
    for name in ("changed", "gone", "newer", "same"):
        write_bundle(repository, name, "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        before = {c.manifest.name: c for c in replica.classifiers}
        write_bundle(repository, "added", "1")
        write_bundle(repository, "newer", "2")
        shutil.rmtree(repository / "gone")
        manifest = json.loads((repository / "changed" / "1" / "manifest.json").read_text())
        (repository / "changed" / "1" / "manifest.json").write_text(json.dumps(manifest | {"variant": "changed"}))
        await replica.reloader.reload()
        assert loaded(replica) == ["added/1", "changed/1", "newer/2", "same/1"]
        assert loaded(replica) == loaded(build(Workshop(), repository))
        assert info(replica) == set(loaded(replica))
        assert workshop.built == ["added/1", "changed/1", "newer/2"]
        after = {c.manifest.name: c for c in replica.classifiers}
        assert after["same"] is before["same"]
        assert after["changed"].manifest.variant == "changed"
        for name, classifier in after.items():
            assert await model_that_answers(client, f"?model={name}") == f"{name}/{classifier.manifest.version}"
        assert (await client.post("/v1/classify?model=gone", content=level_png(1))).status_code == 404
        assert (await client.get("/healthz/ready")).status_code == 200


async def test_what_vanished_goes_but_never_all(workshop: Workshop, repository: Path) -> None:
    for name in ("a", "b"):
        write_bundle(repository, name)
    replica = build(workshop, repository, models="a,b")
    async with serving(replica) as client:
        shutil.rmtree(repository / "a")
        await replica.reloader.reload()
        assert loaded(replica) == ["b/1"]
        shutil.rmtree(repository / "b")
        await replica.reloader.reload()
        assert loaded(replica) == ["b/1"]
        assert await states(client) == {"b/1": ("READY", "no longer in the repository")}
        shutil.rmtree(repository)
        await replica.reloader.reload()
        assert await model_that_answers(client) == "b/1"
        response = await client.post("/v2/repository/index")
        assert (response.status_code, response.json()) == (409, {"error": "models: no such model repository"})


async def test_a_loaded_bundle_whose_files_were_damaged_since_is_told_and_serves_on(
    workshop: Workshop, repository: Path
) -> None:
    bundle = write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        assert (await client.post("/v2/repository/models/a/load")).status_code == 200
        corrupt(bundle)
        response = await client.post("/v2/repository/models/a/load")
        assert (response.status_code, response.json()["error"][:21]) == (409, "a/1: a/1/labels.txt: ")
        assert await model_that_answers(client) == "a/1"
        assert (await states(client))["a/1"][0] == "READY"


async def test_a_bundle_that_cannot_be_used_leaves_the_old_one(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        corrupt(write_bundle(repository, "a", "2"))
        response = await client.post("/v2/repository/models/a/load")
        assert response.status_code == 409
        error = response.json()["error"]
        assert error.startswith("a/2: a/2/labels.txt: sha256 ")
        assert str(repository.parent) not in error
        assert await model_that_answers(client) == "a/1"
        assert (await client.get("/healthz/ready")).status_code == 200
        assert await states(client) == {"a/1": ("READY", ""), "a/2": ("UNAVAILABLE", error.removeprefix("a/2: "))}
        assert await states(client, ready=True) == {"a/1": ("READY", "")}
        await replica.reloader.reload()
        assert loaded(replica) == ["a/1"]
        count = replica.metrics.registry.get_sample_value
        assert count("mixer_model_loads_total", {"model": "a", "outcome": "failed"}) == 2
        shutil.rmtree(repository / "a" / "2")
        write_bundle(repository, "a", "2")
        response = await client.post("/v2/repository/models/a/load")
        assert response.json() == [
            {"name": "a", "version": "1", "state": "UNAVAILABLE", "reason": "not loaded"},
            {"name": "a", "version": "2", "state": "READY", "reason": ""},
        ]
        assert await model_that_answers(client) == "a/2"
        assert count("mixer_model_loads_total", {"model": "a", "outcome": "ok"}) == 1


async def test_an_engine_that_answers_wrongly_leaves_the_old_one(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        write_bundle(repository, "a", "2")
        workshop.broken = True
        response = await client.post("/v2/repository/models/a/load")
        assert response.status_code == 409
        assert response.json()["error"].startswith("a/2: golden logits differ by ")
        assert await model_that_answers(client) == "a/1"


async def test_with_one_of_several_versions_unusable_the_others_are_loaded_and_none_unloaded(
    workshop: Workshop, repository: Path
) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica):
        corrupt(write_bundle(repository, "a", "2"))
        write_bundle(repository, "b", "1")
        await replica.reloader.reload()
        assert loaded(replica) == ["a/1", "b/1"]


async def test_who_was_let_in_before_a_swap_is_answered_by_the_old_one_which_is_then_freed(
    workshop: Workshop, repository: Path
) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        old = weakref.ref(replica.classifiers[0])
        engine = weakref.ref(replica.classifiers[0].choice.engine)
        body = level_png(7)
        half_sent, swapped = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:10]
            half_sent.set()
            await swapped.wait()
            yield body[10:]

        early = asyncio.create_task(client.post("/v1/classify", content=slowly()))
        await half_sent.wait()
        gc.freeze()  # as after a start: no collection finds what the model may still hold
        write_bundle(repository, "a", "2")
        assert (await client.post("/v2/repository/models/a/load")).status_code == 200
        assert await model_that_answers(client) == "a/2"
        assert old() is not None
        swapped.set()
        answer = (await early).json()
        assert (answer["model"]["version"], answer["predictions"][0]["index"]) == ("1", 7)
        del early
        async with asyncio.timeout(10):
            while old() or engine():
                await asyncio.sleep(0)
        assert len(replica.runner.schedulers) == 1
        assert info(replica) == {"a/2"}
        gc.unfreeze()


async def test_a_load_that_failed_holds_nothing(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica):
        write_bundle(repository, "a", "2")
        workshop.broken = True
        gc.disable()
        try:
            with pytest.raises(NotLoaded):
                await replica.reloader.load("a")
            async with asyncio.timeout(10):
                while workshop.last():
                    await asyncio.sleep(0)
        finally:
            gc.enable()


async def test_loads_go_one_after_another_and_their_passes_between_live_ones(
    workshop: Workshop, repository: Path
) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        stop = False

        async def ask() -> set[str]:
            answered = set()
            while not stop:
                answered.add(await model_that_answers(client))
            return answered

        clients = [asyncio.create_task(ask()) for _ in range(8)]
        for name, version in (("a", "2"), ("b", "1"), ("c", "1")):
            write_bundle(repository, name, version)
        loads = [client.post(f"/v2/repository/models/{name}/load") for name in ("a", "b", "c")]
        assert [response.status_code for response in await asyncio.gather(*loads)] == [200, 200, 200]
        stop = True
        assert set().union(*await asyncio.gather(*clients)) <= {"a/1", "a/2"}
        assert loaded(replica) == ["a/2", "b/1", "c/1"]
        assert workshop.most_building == 1
        assert workshop.most_passing == 1


async def test_a_shutdown_waits_for_no_load(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    workshop.entered = threading.Semaphore(0)
    try:
        async with serving(replica) as client:
            write_bundle(repository, "b", "1")
            workshop.gate.clear()
            loads = [asyncio.create_task(client.post("/v2/repository/models/b/load")) for _ in range(2)]
            assert await asyncio.to_thread(workshop.entered.acquire, timeout=10)
            assert (await states(client))["b/1"] == ("LOADING", "")
            replica.drain()
            for response in await asyncio.gather(*loads):
                assert (response.status_code, response.json()["error"]) == (503, "the service is shutting down")
            assert await model_that_answers(client) == "a/1"
            with pytest.raises(NotReady):
                await replica.reloader.unload("a")
            assert replica.reloader.busy
    finally:
        workshop.gate.set()
    while replica.reloader.busy:
        await asyncio.sleep(0.001)
    assert loaded(replica) == ["a/1"]


async def test_unloading(workshop: Workshop, repository: Path) -> None:
    for name, version in (("a", "1"), ("a", "2"), ("b", "1")):
        write_bundle(repository, name, version)
    replica = build(workshop, repository, models="a/1,a/2,b")
    async with serving(replica) as client:
        # As tritonclient sends it.
        response = await client.post(
            "/v2/repository/models/a/unload", json={"parameters": {"unload_dependents": False}}
        )
        assert (response.status_code, [state["state"] for state in response.json()]) == (200, ["UNAVAILABLE"] * 2)
        assert loaded(replica) == ["b/1"]
        assert await model_that_answers(client) == "b/1"
        assert (await client.post("/v1/classify?model=a", content=level_png(1))).status_code == 404
        assert (await client.post("/v2/repository/models/a/unload")).status_code == 404
        response = await client.post("/v2/repository/models/b/unload")
        assert (response.status_code, loaded(replica)) == (409, ["b/1"])
        response = await client.post("/v2/repository/models/a/load", json={})
        assert response.status_code == 200
        assert loaded(replica) == ["a/2", "a/1", "b/1"]


@pytest.mark.parametrize("name", ["nope", "..", "../models/a", "a/1", "a%2F1", "%2e%2e", ".staging", "a\x00"])
async def test_a_clients_name_never_reaches_the_file_system(workshop: Workshop, repository: Path, name: str) -> None:
    write_bundle(repository, "a", "1")
    write_bundle(repository / ".staging", "a", "1")
    replica = build(workshop, repository)
    async with serving(replica):
        with pytest.raises(UnknownModel):
            await replica.reloader.load(name)
        with pytest.raises(UnknownModel):
            await replica.reloader.unload(name)
    assert workshop.built == []


async def test_the_admin_key(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    for keys, headers, status in ((None, ADMIN, 403), (..., {"x-api-key": "another"}, 401), (..., {}, 401)):
        settings = {} if keys is ... else {"admin_keys_file": None}
        async with client_of(build(Workshop(), repository, **settings)) as client:
            for change in ("load", "unload"):
                response = await client.post(f"/v2/repository/models/a/{change}", headers=headers)
                assert response.status_code == status
                assert isinstance(response.json()["error"], str)
            assert (await client.post("/v2/repository/index")).status_code == 200


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"parameters": {"config": "{}"}}', b'"a"', b"[" * 50_000])
async def test_a_load_takes_no_parameters(workshop: Workshop, repository: Path, body: bytes) -> None:
    write_bundle(repository, "a", "1")
    async with serving(build(workshop, repository)) as client:
        response = await client.post("/v2/repository/models/a/load", content=body)
        assert response.status_code == 400
        assert isinstance(response.json()["error"], str)
        response = await client.post("/v2/repository/models/a/load", content=b" " * 70_000)
        assert response.status_code == 413
