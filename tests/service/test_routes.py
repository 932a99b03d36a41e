import asyncio
import base64
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.bundle import BundleError
from service.replica import Replica
from tests.doubles import EchoEngine, FailingEngine, GatedEngine, level_png, replica_around, write_bundle

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def client_of(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(replica)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mixer") as client,
    ):
        replica.loop_lag.stop()  # whatever else this machine does
        yield client


@pytest.fixture
async def replica(tmp_path: Path) -> Replica:
    return replica_around(EchoEngine(), tmp_path / "models", max_body_bytes=10_000, max_pixels=1000)


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(replica) as client:
        yield client


_watched: list[tuple[str, list[str]]] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    for name, seen in _watched:
        if event in ("open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo") and name in str(
            arguments
        ):
            seen.append(f"{event} {arguments}")


sys.addaudithook(_watch)  # for as long as Python runs, and idle unless a test watches


@contextmanager
def reached(name: str) -> Iterator[list[str]]:
    """What files and addresses with that name are opened within the block."""
    _watched.append((name, []))
    try:
        yield _watched[-1][1]
    finally:
        _watched.pop()


def outcomes(replica: Replica) -> dict[str, float]:
    """Images by outcome, those that are not zero."""
    return {
        sample.labels["outcome"]: sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_images_total" and sample.value
    }


def rejections(replica: Replica) -> dict[str, float]:
    """Images refused at the door by why, those that are not zero."""
    return {
        sample.labels["reason"]: sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_rejections_total" and sample.value
    }


@pytest.mark.parametrize(
    "content_type", ["image/png", "", "application/octet-stream", "application/x-www-form-urlencoded"]
)
async def test_a_raw_body_whatever_type_it_announces(client: httpx.AsyncClient, content_type: str) -> None:
    response = await client.post("/v1/classify", content=level_png(123, (6, 4)), headers={"content-type": content_type})
    assert response.status_code == 200
    body = response.json()
    assert body["model"] == {"name": "echo", "version": "1"}
    assert body["predictions"][0]["index"] == 123
    assert body["predictions"][0]["label"] == "level 123"
    assert body["predictions"][0]["probability"] > 0.99
    assert len(body["predictions"]) == 5
    assert body["image"] == {
        "width": 6,
        "height": 4,
        "format": "PNG",
        "orientation_applied": False,
        "stored_as": "rgb",
        "alpha_flattened": False,
        "icc_ignored": False,
    }
    assert body["timing_ms"].keys() == {"receive", "decode", "queue", "infer", "post", "total"}


async def test_top_k(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/classify?top_k=2", content=level_png(1))
    assert len(response.json()["predictions"]) == 2


async def test_json_with_base64(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/classify", json={"image": base64.b64encode(level_png(50)).decode()})
    assert response.json()["predictions"][0]["index"] == 50


async def test_a_form_with_one_image_is_answered_like_a_raw_body(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/classify", files={"image": level_png(51)})
    assert response.json()["predictions"][0]["index"] == 51


async def test_a_form_with_several_images_gives_each_its_own_result(
    client: httpx.AsyncClient, replica: Replica
) -> None:
    files = [("image", level_png(1)), ("image", b"not an image"), ("image", level_png(3)), ("other", b"ignored")]
    response = await client.post("/v1/classify", files=files)
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    assert (first["predictions"][0]["index"], third["predictions"][0]["index"]) == (1, 3)
    assert second == {"error": second["error"]}
    assert second["error"]["code"] == "unsupported_image"
    assert outcomes(replica) == {"ok": 2, "invalid": 1}


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        pytest.param({"content": b""}, 400, "malformed_request", id="empty body"),
        pytest.param({"json": {"picture": ""}}, 400, "malformed_request", id="json without image"),
        pytest.param({"json": {"image": "%%%"}}, 400, "malformed_request", id="json with bad base64"),
        pytest.param({"json": {"image": ""}}, 400, "malformed_request", id="json with empty image"),
        pytest.param(
            {"content": b"[" * 9000, "headers": {"content-type": "application/json"}},
            400,
            "malformed_request",
            id="deep json",
        ),
        pytest.param({"files": {"photo": b"x"}}, 400, "malformed_request", id="form without image"),
        pytest.param(
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "malformed_request",
            id="no boundary",
        ),
        pytest.param({"content": level_png(1), "params": {"top_k": 0}}, 400, "malformed_request", id="top_k 0"),
        pytest.param({"content": level_png(1), "params": {"top_k": "x"}}, 400, "malformed_request", id="top_k text"),
        pytest.param(
            {"content": level_png(1), "headers": {"x-deadline-ms": "-1"}},
            400,
            "malformed_request",
            id="negative deadline",
        ),
        pytest.param(
            {"content": level_png(1), "headers": {"x-deadline-ms": "nan"}}, 400, "malformed_request", id="deadline nan"
        ),
        pytest.param({"content": level_png(1), "params": {"model": "nope"}}, 404, "unknown_model", id="unknown model"),
        pytest.param({"content": level_png(1), "params": {"version": "2"}}, 404, "unknown_model", id="unknown version"),
        pytest.param({"content": b"x" * 10_001}, 413, "payload_too_large", id="body over the limit"),
        pytest.param({"content": level_png(1, (40, 30))}, 413, "image_too_large", id="pixels over the limit"),
        pytest.param({"content": b"hello"}, 415, "unsupported_image", id="text"),
        pytest.param({"content": level_png(1)[:40]}, 422, "invalid_image", id="truncated"),
    ],
)
async def test_bad_requests_get_their_status(
    client: httpx.AsyncClient, request_: dict[str, object], status: int, code: str
) -> None:
    response = await client.post("/v1/classify", **request_)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]
    assert response.headers["x-request-id"]
    assert "total;dur=" in response.headers["server-timing"]


async def test_a_chunked_body_is_bounded_without_a_content_length(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1000
            yield b"x" * 1000

    response = await client.post("/v1/classify", content=endless())
    assert response.status_code == 413
    assert sent <= 12_000


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (
            "multipart/form-data; boundary=x; charset=undefined",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n--x--\r\n',
        ),
        ("application/json", b'{"image":[' + b",".join([b"{}"] * 1500) + b"]}"),
    ],
    ids=["a charset that is none", "JSON of many parts"],
)
async def test_what_no_client_sends_by_mistake_is_400(
    client: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    response = await client.post("/v1/classify", content=body, headers={"content-type": content_type})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/classify", 405), ("GET", "/nowhere", 404)])
async def test_the_frameworks_refusals_look_like_ours(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"].keys() == {"code", "message"}


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
    body_read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal body_read
        body_read = True
        yield level_png(3)

    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=level_png(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        replica.runner.busy_until = asyncio.get_running_loop().time() + 3
        refused = await client.post("/v1/classify", content=body(), headers={"x-deadline-ms": "1000"})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "deadline")
        assert int(refused.headers["retry-after"]) in (2, 3)
        engine.gate.set()
        assert (await first).status_code == 200
    assert outcomes(replica) == {"ok": 1, "rejected": 1}
    assert not body_read


async def test_who_names_no_deadline_is_promised_the_target_unless_it_is_bulk(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1, latency_target_ms=300)
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=level_png(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        replica.runner.busy_until = asyncio.get_running_loop().time() + 1
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


async def test_what_the_event_loop_alone_would_make_late_is_refused_before_anything_else(tmp_path: Path) -> None:
    engine = EchoEngine()
    replica = replica_around(engine, tmp_path / "models", latency_target_ms=550)
    async with client_of(replica) as client:
        replica.loop_lag.take(0.1)  # five times on an image's way
        for deadline, status in (("100", 429), ("499", 429), ("600", 200), (None, 200), ("nonsense", 400)):
            headers = {"x-deadline-ms": deadline} if deadline else {}
            response = await client.post("/v1/classify", content=level_png(1), headers=headers)
            assert response.status_code == status, deadline
            if status == 429:
                assert response.json()["error"]["reason"] == "event_loop"
                assert response.headers["retry-after"] == "1"
                assert response.headers["x-request-id"]
        assert (await client.get("/healthz/live")).status_code == 200
        for _ in range(20):
            replica.loop_lag.take(0.0)
        urgent = await client.post("/v1/classify", content=level_png(1), headers={"x-deadline-ms": "100"})
        assert urgent.status_code == 200
    assert outcomes(replica) == {"ok": 3, "rejected": 2}
    assert rejections(replica) == {"event_loop": 2}


async def test_bytes_inside_are_bounded_by_what_bodies_announce(tmp_path: Path) -> None:
    engine = GatedEngine()
    image = level_png(1)
    replica = replica_around(
        engine, tmp_path / "models", max_body_bytes=2 * len(image), max_inflight_bytes=2 * len(image)
    )
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post("/v1/classify", content=image))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        refused = await client.post("/v1/classify", content=image + b"\0" * len(image))
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "inflight_bytes")
        second = asyncio.create_task(client.post("/v1/classify", content=image))
        engine.gate.set()
        assert [response.status_code for response in await asyncio.gather(first, second)] == [200, 200]


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
    assert replica.metrics.registry.get_sample_value("mixer_admitted_images_total", {"model": "echo"}) == 4


async def test_the_last_passes_can_be_looked_at_where_that_is_enabled(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        hidden = await client.get("/debug/passes")
        assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "not_found")
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", debug=True)) as client:
        for level in (1, 2):
            await client.post("/v1/classify", content=level_png(level))
        newest, oldest = (await client.get("/debug/passes")).json()
    assert newest["at"] > oldest["at"]
    assert (newest["model"], newest["size"], newest["reason"], newest["failed"]) == ("echo", 1, "idle", False)
    assert newest.keys() >= {"waited_ms", "predicted_ms", "actual_ms", "left_waiting", "dropped"}


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models")
    app = create_app(replica)
    async with app.router.lifespan_context(app):
        messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        scope = {
            "type": "http", "method": "POST", "path": "/v1/classify", "raw_path": b"/v1/classify", "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "root_path": "",
        }  # fmt: skip
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        serving = asyncio.create_task(app(scope, messages.get, send))
        messages.put_nowait({"type": "http.request", "body": level_png(1), "more_body": False})
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        messages.put_nowait({"type": "http.disconnect"})
        await serving
        assert replica.admission.inflight == 0
        assert sent[0]["status"] == 499
        engine.gate.set()
    assert outcomes(replica) == {"cancelled": 1}


async def test_a_fault_of_ours_is_500_without_its_text(tmp_path: Path) -> None:
    replica = replica_around(FailingEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        response = await client.post("/v1/classify", content=level_png(66))
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal"
        assert response.headers["x-request-id"] in response.json()["error"]["message"]
        assert "secret" not in response.text
    assert outcomes(replica) == {"error": 1}


async def test_an_unforeseen_exception_is_500_with_the_request_id(
    replica: Replica, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(replica, "find", explode)
    response = await client.post("/v1/classify", content=level_png(1), headers={"x-request-id": "abc-1"})
    assert response.status_code == 500
    assert "abc-1" in response.json()["error"]["message"]
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("given", ["a" * 65, "new\tline", "{}", ""])
async def test_a_doubtful_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    response = await client.get("/healthz/live", headers={"x-request-id": given})
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


async def test_server_timing_names_the_stages(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/classify", content=level_png(1))
    names = [part.split(";dur=")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert names == ["receive", "decode", "queue", "infer", "post", "total"]


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


async def test_several_models(tmp_path: Path) -> None:
    write_bundle(tmp_path, "first", "3")
    write_bundle(tmp_path, "second", "1")
    async with client_of(replica_around(EchoEngine(), tmp_path)) as client:
        for query, name, version in (
            ("", "first", "3"),
            ("?model=second", "second", "1"),
            ("?version=3", "first", "3"),
        ):
            response = await client.post(f"/v1/classify{query}", content=level_png(1))
            assert response.json()["model"] == {"name": name, "version": version}
        assert (await client.post("/v1/classify?model=second&version=3", content=level_png(1))).status_code == 404


async def test_a_models_config_says_how_it_runs_here(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", max_batch_size=4)
    async with client_of(replica) as client:
        config = (await client.get("/v2/models/echo/config")).json()
        assert (await client.get("/v2/models/echo/versions/1/config")).json() == config
        assert (config["name"], config["version"], config["precision"]) == ("echo", "1", "fp32")
        assert (config["engine"], config["engine_threads"], config["engine_max_batch_size"]) == ("echo", 1, 4)
        assert config["engines_considered"]["double"].startswith("echo: ")
        assert config["pass_seconds"].keys() == {"1", "2", "4"}
        rates = [int(size) / seconds for size, seconds in config["pass_seconds"].items()]
        assert config["images_per_second"] == pytest.approx(max(rates))
        exposed = replica.metrics.registry.get_sample_value(
            "mixer_calibrated_pass_seconds", {"model": "echo", "batch_size": "4"}
        )
        assert exposed == pytest.approx(config["pass_seconds"]["4"])
        for path in ("/v2/models/other/config", "/v2/models/echo/versions/9/config", "/v2/nonsense"):
            response = await client.get(path)
            assert response.status_code == 404
            assert isinstance(response.json()["error"], str)


async def test_the_batch_size_is_chosen_unless_it_is_told(tmp_path: Path) -> None:
    for told in (0, 3):
        replica = replica_around(EchoEngine(), tmp_path / str(told), max_batch_size=told)
        async with client_of(replica) as client:
            config = (await client.get("/v2/models/echo/config")).json()
            assert config["pass_seconds"].keys() == ({"1", "2", "4", "8", "16"} if told == 0 else {"1", "2", "3"})
            assert config["engine_max_batch_size"] in ([1, 2, 4, 8, 16] if told == 0 else [3])


async def test_api_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# clients\n\n{hashlib.sha256(b'open sesame').hexdigest()}\n")
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    async with client_of(replica) as client:
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Basic open sesame"}):
            response = await client.post("/v1/classify", content=level_png(1), headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
        for headers in ({"x-api-key": "open sesame"}, {"authorization": "Bearer open sesame"}):
            assert (await client.post("/v1/classify", content=level_png(1), headers=headers)).status_code == 200
        assert (await client.get("/healthz/ready")).status_code == 200
    assert outcomes(replica) == {"ok": 2}


async def test_a_key_beyond_its_rate_is_told_when_to_return_and_takes_no_room(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'slow').hexdigest()} app rate=0.001 burst=1\n")
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    async with client_of(replica) as client:
        headers = {"x-api-key": "slow"}
        assert (await client.post("/v1/classify", content=level_png(1), headers=headers)).status_code == 200
        refused = await client.post("/v1/classify", content=level_png(1), headers=headers)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "rate_limit")
        assert 990 <= int(refused.headers["retry-after"]) <= 1000
    assert outcomes(replica) == {"ok": 1}


async def test_a_stranger_takes_no_room_and_has_no_body_read(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(hashlib.sha256(b"open sesame").hexdigest())
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    body_read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal body_read
        body_read = True
        yield level_png(3)

    async with client_of(replica) as client:
        response = await client.post("/v1/classify", content=body(), headers={"x-api-key": "wrong"})
    assert response.status_code == 401
    assert not body_read
    assert replica.metrics.registry.get_sample_value("mixer_admitted_images_total", {"model": "echo"}) == 0


@pytest.mark.parametrize("path", ["/v1/classify", "/healthz/live", "/nowhere", "/openapi.json", "/docs", "/"])
async def test_safe_headers_once_on_every_answer(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("cache-control") == ["no-cache" if path == "/" else "no-store"]
    assert "server" not in response.headers


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "echo/1",
        "echo%00",
        "http://127.0.0.1:9000/",
        "a" * 5000,
    ],
)
async def test_a_models_name_is_looked_up_and_never_opened(client: httpx.AsyncClient, name: str) -> None:
    with reached(name) as names:
        for parameters in ({"model": name}, {"version": name}):
            response = await client.post("/v1/classify", content=level_png(1), params=parameters)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_model")
        assert (await client.get(f"/v2/models/{name}/config")).status_code == 404
    assert not names


@pytest.mark.parametrize("path", ["/page/..%2fsettings.py", "/page/../settings.py", "/page/%2fetc%2fpasswd"])
async def test_the_page_has_its_own_files_and_no_others(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


def test_what_is_opened_is_seen(tmp_path: Path) -> None:
    with reached("seen") as names:
        (tmp_path / "seen").write_text("")
    assert names


async def test_openapi_describes_every_status_of_classify(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/v1/classify"]["post"]
    assert operation["responses"].keys() >= {
        "200",
        "400",
        "401",
        "404",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    }
    assert operation["requestBody"]["content"].keys() >= {"image/*", "multipart/form-data", "application/json"}


async def test_a_stalled_upload_ends_with_the_default_deadline_whatever_it_asks_for(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", deadline_ms=200)

    async def stalled() -> AsyncIterator[bytes]:
        yield level_png(1)[:20]
        await asyncio.sleep(30)
        yield b""

    async with client_of(replica) as client, asyncio.timeout(20):
        headers = {"x-deadline-ms": "600000"}
        response = await client.post("/v1/classify", content=stalled(), headers=headers)
    assert response.status_code == 504
    assert outcomes(replica) == {"expired": 1}


def test_a_bundle_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, "right")
    (tmp_path / "right").rename(tmp_path / "wrong")
    with pytest.raises(BundleError, match="its manifest calls it right/1"):
        replica_around(EchoEngine(), tmp_path)


def test_more_engine_threads_than_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MIXER_THREADS 1000 exceeds"):
        replica_around(EchoEngine(), tmp_path / "models", threads=1000)
