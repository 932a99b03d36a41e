import asyncio
import gc
import hashlib
import json
import shutil
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import generate_latest

from service.app import build_replica
from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import Bundle
from service.engines.choice import Build
from service.errors import NotLoaded, NotReady, UnknownModel
from service.lanes.program import serve
from service.lanes.shape import COPIES, FRONT_BYTES, LANE_BYTES
from service.metrics import Metrics
from service.models.replica import Replica
from service.settings import Settings
from tests.doubles import EchoEngine, ThreadLane, level_png, started, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio

ADMIN = {"x-api-key": "an admin's"}


class Workshop:
    """Starts lanes as threads, with an engine for each bundle, and says what happened meanwhile."""

    def __init__(self) -> None:
        self.building = 0
        self.most_building = 0
        self.built: list[str] = []  # name/version
        self.lanes: list[Lane] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.broken = False

    def __call__(self, connection: socket.socket) -> "Lane":
        self.lanes.append(Lane(connection, self))
        return self.lanes[-1]

    def engines(self, bundle: Bundle, *_: object) -> dict[str, Build]:
        self.built.append(f"{bundle.manifest.name}/{bundle.manifest.version}")
        return {"double": self._build}

    def _build(self) -> EchoEngine:
        self.building += 1
        self.most_building = max(self.most_building, self.building)
        self.entered.release()
        assert self.gate.wait(timeout=30), "the test never opened the gate"
        self.building -= 1
        return BrokenEngine() if self.broken else EchoEngine()


class Lane(ThreadLane):
    """A lane of a workshop's, which says when it has ended."""

    def __init__(self, connection: socket.socket, workshop: Workshop) -> None:
        self.ended = threading.Event()
        self._workshop = workshop
        super().__init__(connection, EchoEngine())

    def _serve(self, engine: EchoEngine) -> None:
        with suppress(OSError), self._connection:
            serve(self._connection, self._workshop.engines)
        self.ended.set()


class BrokenEngine(EchoEngine):
    def run(self, pixels: PixelBatch) -> LogitBatch:
        return np.zeros_like(super().run(pixels))


def build(workshop: Workshop, repository: Path, **settings: object) -> Replica:
    keys = repository.parent / "admin-keys"
    keys.write_text(hashlib.sha256(ADMIN["x-api-key"].encode()).hexdigest())
    chosen = {"admin_keys_file": keys, "lanes": 1, "threads": 1, "max_batch_size": 4} | settings
    return build_replica(Settings(model_repository=repository, **chosen), Metrics(), workshop)


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
        workshop = replica.loader.spawn
        assert isinstance(workshop, Workshop)
        workshop.built.clear()
        workshop.entered = threading.Semaphore(0)
        yield client
    for lane in workshop.lanes:
        assert await asyncio.to_thread(lane.ended.wait, 10)


def loaded(replica: Replica) -> list[str]:
    return [f"{c.manifest.name}/{c.manifest.version}" for c in replica.models.classifiers]


def info(replica: Replica) -> set[str]:
    return {
        f"{sample.labels['model']}/{sample.labels['version']}"
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_model_info"
    }


def counted(replica: Replica, name: str, **labels: str) -> dict[str, float]:
    """The series of a metric that have these labels, by name/version."""
    return {
        f"{sample.labels['model']}/{sample.labels['version']}": sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def corrupt(bundle: Path) -> None:
    (bundle / "labels.txt").write_text("tampered")


async def model_that_answers(client: httpx.AsyncClient, query: str = "") -> str:
    patient = {"x-deadline-ms": "60000"}  # a slow machine is not what is tested
    response = await client.post(f"/v1/classify{query}", content=level_png(7), headers=patient)
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
    async with serving(replica) as client:
        assert loaded(replica) == ["b/10", "b/9", "a/1"]
        assert info(replica) == {"b/10", "b/9", "a/1"}
        assert replica.metrics.registry.get_sample_value("mixer_lanes") == 3
        assert await model_that_answers(client) == "b/10"
        assert await model_that_answers(client, "?version=9") == "b/9"
        assert await model_that_answers(client, "?model=b") == "b/10"
        assert await model_that_answers(client, "?model=b&version=9") == "b/9"
        assert await model_that_answers(client, "?model=a") == "a/1"
        assert (await client.post("/v1/classify?version=1", content=level_png(1))).status_code == 404
        answered = {of: figure for of, figure in counted(replica, "mixer_images_total", outcome="ok").items() if figure}
        assert answered == {"b/10": 2, "b/9": 2, "a/1": 1}


async def test_a_reload_serves_what_a_fresh_start_would(workshop: Workshop, repository: Path) -> None:
    for name in ("changed", "gone", "newer", "same"):
        write_bundle(repository, name, "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        before = {c.manifest.name: c for c in replica.models.classifiers}
        write_bundle(repository, "added", "1")
        write_bundle(repository, "newer", "2")
        shutil.rmtree(repository / "gone")
        manifest = json.loads((repository / "changed" / "1" / "manifest.json").read_text())
        (repository / "changed" / "1" / "manifest.json").write_text(json.dumps(manifest | {"variant": "changed"}))
        await replica.lifecycle.reload()
        assert loaded(replica) == ["added/1", "changed/1", "newer/2", "same/1"]
        async with started(fresh := build(Workshop(), repository)):
            assert loaded(replica) == loaded(fresh)
        assert info(replica) == set(loaded(replica))
        assert workshop.built == ["added/1", "changed/1", "newer/2"]
        after = {c.manifest.name: c for c in replica.models.classifiers}
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
        await replica.lifecycle.reload()
        assert loaded(replica) == ["b/1"]
        shutil.rmtree(repository / "b")
        await replica.lifecycle.reload()
        assert loaded(replica) == ["b/1"]
        assert await states(client) == {"b/1": ("READY", "no longer in the repository")}
        shutil.rmtree(repository)
        await replica.lifecycle.reload()
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
        assert len(await states(client, ready=None)) == 2
        assert (await client.post("/v2/repository/index", json={"ready": "false"})).status_code == 400
        await replica.lifecycle.reload()
        assert loaded(replica) == ["a/1"]
        count = replica.metrics.registry.get_sample_value
        assert count("mixer_model_loads_total", {"model": "a", "outcome": "failed"}) == 2
        shutil.rmtree(repository / "a" / "2")
        assert await states(client) == {"a/1": ("READY", "")}
        write_bundle(repository, "a", "2")
        assert (await states(client))["a/2"] == ("UNAVAILABLE", "not loaded")  # what failed is forgotten with it
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
        await replica.lifecycle.reload()
        assert loaded(replica) == ["a/1", "b/1"]


async def test_who_was_let_in_before_a_swap_is_answered_by_the_old_one_which_is_then_freed(
    workshop: Workshop, repository: Path
) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        old = weakref.ref(replica.models.classifiers[0])
        its_scheduler = weakref.ref(replica.models.classifiers[0]._scheduler)
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
        replica.metrics.lane_threads.set(0)
        assert (await client.post("/v2/repository/models/a/load")).status_code == 200
        assert replica.metrics.registry.get_sample_value("mixer_lane_threads") == 1
        assert await model_that_answers(client) == "a/2"
        assert old() is not None
        assert not workshop.lanes[0].ended.is_set()
        swapped.set()
        answer = (await early).json()
        assert (answer["model"]["version"], answer["predictions"][0]["index"]) == ("1", 7)
        del early
        assert await asyncio.to_thread(workshop.lanes[0].ended.wait, 10)
        async with asyncio.timeout(10):
            while old() or its_scheduler():
                await asyncio.sleep(0)
        assert info(replica) == {"a/2"}
        assert replica.metrics.registry.get_sample_value("mixer_lanes") == 1
        assert replica.metrics.registry.get_sample_value("mixer_lanes_ready") == 1
        gc.unfreeze()


async def test_a_version_that_is_gone_leaves_no_series_once_its_last_image_is_counted(
    workshop: Workshop, repository: Path
) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        straggler = replica.models.classifiers[0].metrics
        half_sent, swapped = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield level_png(7)[:10]
            half_sent.set()
            await swapped.wait()
            yield level_png(7)[10:]

        early = asyncio.create_task(client.post("/v1/classify", content=slowly()))
        await half_sent.wait()
        write_bundle(repository, "a", "2")
        await replica.lifecycle.load("a")
        assert counted(replica, "mixer_admitted_images_total") == {"a/1": 1, "a/2": 0}
        assert counted(replica, "mixer_images_total", outcome="ok") == {"a/1": 0, "a/2": 0}
        assert counted(replica, "mixer_predicted_capacity_images_per_second").keys() == {"a/2"}
        swapped.set()
        assert (await early).status_code == 200
        await asyncio.gather(*replica.lifecycle._retiring)
        straggler.count_image("ok")
        straggler.observe_stages({"infer": 1.0})
        exposed = generate_latest(replica.metrics.registry).decode()
        of_model = [line for line in exposed.splitlines() if 'model="a"' in line]
        assert [line for line in of_model if 'version="2"' not in line and "mixer_model_loads_total" not in line] == []


async def test_a_bundle_that_changed_under_its_version_goes_on_with_its_series(
    workshop: Workshop, repository: Path
) -> None:
    bundle = write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        assert await model_that_answers(client) == "a/1"
        manifest = bundle / "manifest.json"
        manifest.write_text(manifest.read_text() + "\n")
        await replica.lifecycle.load("a")
        await asyncio.gather(*replica.lifecycle._retiring)
        assert workshop.built == ["a/1"]
        assert await model_that_answers(client) == "a/1"
        assert counted(replica, "mixer_images_total", outcome="ok") == {"a/1": 2}


async def test_a_version_that_failed_to_load_leaves_no_series(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica):
        write_bundle(repository, "a", "2")
        workshop.broken = True
        workshop.gate.clear()
        load = asyncio.create_task(replica.lifecycle.load("a"))
        assert await asyncio.to_thread(workshop.entered.acquire, timeout=10)
        assert counted(replica, "mixer_images_total", outcome="ok") == {"a/1": 0, "a/2": 0}
        workshop.gate.set()
        with pytest.raises(NotLoaded):
            await load
        assert counted(replica, "mixer_images_total", outcome="ok") == {"a/1": 0}


async def test_a_load_that_failed_leaves_no_lane(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica):
        write_bundle(repository, "a", "2")
        workshop.broken = True
        with pytest.raises(NotLoaded):
            await replica.lifecycle.load("a")
        assert await asyncio.to_thread(workshop.lanes[1].ended.wait, 10)
        assert replica.metrics.registry.get_sample_value("mixer_lanes_ready") == 1


async def test_a_lane_that_dies_while_it_loads_leaves_the_old_model(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        write_bundle(repository, "a", "2")
        workshop.gate.clear()
        load = asyncio.create_task(client.post("/v2/repository/models/a/load"))
        assert await asyncio.to_thread(workshop.entered.acquire, timeout=10)
        workshop.lanes[1].kill()
        response = await load
        workshop.gate.set()
        assert response.status_code == 409
        assert response.json()["error"].startswith("a/2: ")
        assert await model_that_answers(client) == "a/1"
        assert (await client.get("/healthz/ready")).status_code == 200


async def test_a_lane_of_the_old_model_that_dies_during_a_load_changes_nothing_of_it(
    workshop: Workshop, repository: Path
) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        write_bundle(repository, "a", "2")
        workshop.gate.clear()
        load = asyncio.create_task(client.post("/v2/repository/models/a/load"))
        assert await asyncio.to_thread(workshop.entered.acquire, timeout=10)
        workshop.lanes[0].kill()
        asked = asyncio.create_task(model_that_answers(client))
        workshop.gate.set()
        assert (await load).status_code == 200
        assert await asked in ("a/1", "a/2")
        assert await model_that_answers(client) == "a/2"


async def test_a_model_that_does_not_fit_beside_the_others_is_refused(
    workshop: Workshop, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.memory_limit", lambda: FRONT_BYTES + int(1.5 * (LANE_BYTES + COPIES * 100)))
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
    async with serving(replica) as client:
        write_bundle(repository, "b", "1")
        response = await client.post("/v2/repository/models/b/load")
        assert response.status_code == 409
        assert "the memory limit of 244 MiB is too little" in response.json()["error"]
        assert await model_that_answers(client) == "a/1"
        assert len(workshop.lanes) == 1


async def test_loads_go_one_after_another_beside_what_serves(workshop: Workshop, repository: Path) -> None:
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


async def test_a_shutdown_waits_for_no_load(workshop: Workshop, repository: Path) -> None:
    write_bundle(repository, "a", "1")
    replica = build(workshop, repository)
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
            await replica.lifecycle.unload("a")
        workshop.gate.set()
        assert await asyncio.to_thread(workshop.lanes[1].ended.wait, 10)
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
            await replica.lifecycle.load(name)
        with pytest.raises(UnknownModel):
            await replica.lifecycle.unload(name)
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
