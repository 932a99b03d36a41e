import asyncio
import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.replica import Replica
from tests.doubles import (
    CLASSES,
    SIDE,
    EchoEngine,
    FailingEngine,
    GatedEngine,
    level_pixels,
    level_png,
    replica_around,
    write_bundle,
)
from tests.service.test_routes import client_of

pytestmark = pytest.mark.anyio

INFER = "/v2/models/echo/infer"


@pytest.fixture
async def replica(tmp_path: Path) -> Replica:
    return replica_around(EchoEngine(), tmp_path / "models", max_body_bytes=10_000, max_pixels=1000)


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(replica) as client:
        yield client


def pixels(*levels: int, **fields: object) -> dict[str, object]:
    """A request in JSON for images of these levels."""
    data = [level_pixels(level).tolist() for level in levels]
    shape = [len(levels), SIDE, SIDE, 3]
    return {"inputs": [{"name": "images", "datatype": "UINT8", "shape": shape, "data": data}], **fields}


def files(*images: bytes) -> tuple[bytes, dict[str, str]]:
    """A binary request for encoded images, and its headers."""
    data = b"".join(struct.pack("<I", len(image)) + image for image in images)
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(images)]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


def levels(response: httpx.Response) -> list[int]:
    """The images' levels, as the logits of a JSON answer say."""
    assert response.status_code == 200, response.text
    logits, _ = response.json()["outputs"]
    assert (logits["name"], logits["datatype"]) == ("logits", "FP32")
    return [int(level) for level in np.reshape(logits["data"], logits["shape"]).argmax(axis=1)]


def outcomes(replica: Replica) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_images_total" and sample.value
    }


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("model", ["/v2/models/echo", "/v2/models/echo/versions/1"])
async def test_every_description_with_and_without_version_and_slash(
    client: httpx.AsyncClient, model: str, slash: str
) -> None:
    async def get(path: str) -> object:
        response = await client.get(path + slash)
        assert response.status_code == 200, path
        return response.json()

    server = await get("/v2")
    assert server["name"] == "mixer-serving"
    assert set(server["extensions"]) >= {"binary_tensor_data", "classification", "parameters", "statistics"}
    assert await get("/v2/health/live") == {"live": True}
    assert await get("/v2/health/ready") == {"ready": True}
    assert await get(f"{model}/ready") == {"name": "echo", "ready": True}
    assert await get(model) == {
        "name": "echo",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "images", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]},
            {"name": "image_bytes", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, CLASSES]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, CLASSES]},
        ],
    }
    config = await get(f"{model}/config")
    assert config["max_batch_size"] == 64
    assert config["input"][0] == {"name": "images", "data_type": "TYPE_UINT8", "dims": [4, 4, 3], "optional": True}
    assert config["input"][1] == {"name": "image_bytes", "data_type": "TYPE_STRING", "dims": [1], "optional": True}
    assert config["output"][0]["dims"] == [CLASSES]
    assert config["dynamic_batching"]["preferred_batch_size"] == [config["engine_max_batch_size"]]
    assert (await get(f"{model}/stats"))["model_stats"][0]["name"] == "echo"
    assert (await get("/v2/models/stats"))["model_stats"][0]["version"] == "1"
    assert levels(await client.post(f"{model}/infer{slash}", json=pixels(5))) == [5]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nonsense", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("GET", "/v2/models/echo/versions/9", 404),
        ("GET", "/v2/models/echo/versions/9/ready", 404),
        ("GET", "/v2/models/echo/versions/latest/config", 404),
        ("GET", "/v2/models/echo/versions/9/stats", 404),
        ("POST", "/v2/models/echo/versions/9/infer", 404),
        ("POST", "/v2/models/nope/infer/", 404),
        ("POST", "/v2", 405),
        ("DELETE", "/v2/", 405),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
    ],
)
async def test_the_error_of_every_path_is_its_message_alone(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path, json=pixels(1) if method == "POST" else None)
    assert response.status_code == status
    assert response.json() == {"error": response.json()["error"]}
    assert isinstance(response.json()["error"], str)
    assert response.json()["error"]


async def test_pixels_and_files_in_json_binary_and_raw(client: httpx.AsyncClient) -> None:
    assert levels(await client.post(INFER, json=pixels(3, 250, 77))) == [3, 250, 77]
    body, headers = files(level_png(9), level_png(8, (7, 5)))
    assert levels(await client.post(INFER, content=body, headers=headers)) == [9, 8]
    raw = await client.post(INFER, content=level_png(6), headers={"inference-header-content-length": "0"})
    assert raw.headers["content-type"] == "application/octet-stream"
    length = int(raw.headers["inference-header-content-length"])
    assert [output["shape"] for output in json.loads(raw.content[:length])["outputs"]] == [[1, CLASSES]] * 2
    assert np.frombuffer(raw.content[length : length + 4 * CLASSES], "<f4").argmax() == 6
    assert len(raw.content) == length + 2 * 4 * CLASSES


async def test_the_answer_names_the_model_and_echoes_the_id(client: httpx.AsyncClient) -> None:
    head = (await client.post(INFER, json=pixels(1, id="mine"))).json()
    assert (head["model_name"], head["model_version"], head["id"]) == ("echo", "1", "mine")
    assert "id" not in (await client.post(INFER, json=pixels(1))).json()


async def test_the_classification_extension(client: httpx.AsyncClient) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    (output,) = (await client.post(INFER, json=pixels(7, outputs=outputs))).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    best, second = output["data"]
    assert best.endswith(":7:level 7")
    assert float(best.split(":")[0]) > 0.99
    assert second.endswith(":0:level 0")


async def test_logits_are_those_of_v1s_prediction(client: httpx.AsyncClient) -> None:
    image = level_png(200, (9, 9))
    (best,) = (await client.post("/v1/classify?top_k=1", content=image)).json()["predictions"]
    body, headers = files(image)
    assert levels(await client.post(INFER, content=body, headers=headers)) == [best["index"]]


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "", "٣", "9" * 19, "9" * 18])
async def test_a_header_length_that_cannot_be_is_refused(client: httpx.AsyncClient, length: str) -> None:
    headers = [(b"inference-header-content-length", length.encode())]
    response = await client.post(INFER, content=json.dumps(pixels(1)), headers=headers)
    assert response.status_code == 400
    assert "ength" in response.json()["error"]


@pytest.mark.parametrize(
    ("images", "status", "says"),
    [
        ([level_png(1), b"no image"], 415, "image 1: "),
        ([level_png(1)[:40], level_png(1)], 422, "image 0: "),
        ([level_png(1, (40, 30))], 413, "image 0: "),
        ([b"", level_png(1)], 400, "image 0: "),
        ([level_png(1)] * 65, 400, "N from 1 to 64"),
        ([b"x" * 10_001], 413, "10000 bytes"),
    ],
)
async def test_one_bad_image_fails_the_request(
    client: httpx.AsyncClient, images: list[bytes], status: int, says: str
) -> None:
    body, headers = files(*images)
    response = await client.post(INFER, content=body, headers=headers)
    assert response.status_code == status
    assert says in response.json()["error"]


async def test_an_engine_failure_fails_the_request_with_its_id(tmp_path: Path) -> None:
    replica = replica_around(FailingEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        response = await client.post(INFER, json=pixels(7, FailingEngine.poison))
        assert response.status_code == 500
        assert response.headers["x-request-id"] in response.json()["error"]
        assert levels(await client.post(INFER, json=pixels(7))) == [7]
        assert replica.admission.inflight == 0


async def test_an_unforeseen_exception_is_a_message_too(
    replica: Replica, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "find", lambda *_: 1 / 0)
    response = await client.get("/v2/models/echo")
    assert response.status_code == 500
    assert response.headers["x-request-id"] in response.json()["error"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_requests(client: httpx.AsyncClient, encoding: str) -> None:
    body, headers = files(level_png(44))
    body = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    assert levels(await client.post(INFER, content=body, headers=headers | {"content-encoding": encoding})) == [44]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(10_001)), "gzip", 413),
        (gzip.compress(b"{}")[:-1], "gzip", 400),
        (b"{}", "gzip", 400),
        (b"{}", "br", 415),
    ],
)
async def test_compressed_requests_that_cannot_be_read(
    client: httpx.AsyncClient, body: bytes, encoding: str, status: int
) -> None:
    response = await client.post(INFER, content=body, headers={"content-encoding": encoding})
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)


async def test_a_compressed_body_counts_as_the_largest(tmp_path: Path) -> None:
    replica = replica_around(GatedEngine(), tmp_path / "models", max_body_bytes=5000, max_inflight_bytes=8000)
    body = gzip.compress(json.dumps(pixels(1)).encode())
    async with client_of(replica) as client:
        headers = {"content-encoding": "gzip"}
        first = asyncio.create_task(client.post(INFER, content=body, headers=headers))
        assert await asyncio.to_thread(replica.classifiers[0].choice.engine.entered.acquire, timeout=10)
        refused = await client.post(INFER, content=body, headers=headers)
        assert refused.status_code == 429
        replica.classifiers[0].choice.engine.gate.set()
        assert levels(await first) == [1]


async def test_responses_are_compressed_where_that_is_accepted(client: httpx.AsyncClient) -> None:
    response = await client.post(INFER, json=pixels(1), headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert levels(response) == [1]
    plain = await client.post(INFER, json=pixels(1), headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert len(plain.content) > int(response.headers["content-length"])


async def test_a_timeout_that_cannot_be_kept_is_refused_once_it_is_read(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post(INFER, json=pixels(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        replica.runner.busy_until = asyncio.get_running_loop().time() + 3
        refused = await client.post(INFER, json=pixels(2, parameters={"timeout": 1_000_000}))
        assert refused.status_code == 429
        assert "deadline" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) in (2, 3)
        replica.runner.busy_until = 0.0
        late = await client.post(INFER, json=pixels(2, parameters={"timeout": 50_000}))
        assert late.status_code in (429, 504)
        engine.gate.set()
        assert levels(await first) == [1]
    assert engine.batch_sizes == [1]
    assert outcomes(replica)["ok"] == 1


async def test_an_idle_service_tries_any_timeout_that_a_pass_fits_into(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        hopeless = await client.post(INFER, json=pixels(1, parameters={"timeout": 1}))
        assert hopeless.status_code == 429
        replica.classifiers[0]._decode_pool._mean_seconds = 1000.0  # what is believed of decoding is no reason
        assert levels(await client.post(INFER, json=pixels(1, parameters={"timeout": 30_000_000}))) == [1]
    assert outcomes(replica) == {"ok": 1, "expired": 1}


async def test_a_timeout_may_be_longer_than_the_default(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", deadline_ms=300)
    async with client_of(replica) as client, asyncio.timeout(30):
        patient = asyncio.create_task(client.post(INFER, json=pixels(1, parameters={"timeout": 20_000_000})))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        impatient = await client.post(INFER, json=pixels(2))
        assert impatient.status_code in (429, 504)
        engine.gate.set()
        assert levels(await patient) == [1]


@pytest.mark.parametrize(
    ("parameters", "header", "priority"),
    [
        ({}, None, "interactive"),
        ({"priority": 0}, "bulk", "bulk"),
        ({"priority": 1}, "bulk", "interactive"),
        ({"priority": 2}, None, "bulk"),
        ({"priority": 9}, "interactive", "bulk"),
    ],
)
async def test_priority(tmp_path: Path, parameters: dict[str, int], header: str | None, priority: str) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models")
    async with client_of(replica) as client:
        headers = {"x-priority": header} if header else {}
        body = pixels(1, 2, parameters=parameters)
        running = asyncio.create_task(client.post(INFER, json=pixels(0)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        asking = asyncio.create_task(client.post(INFER, json=body, headers=headers))
        ahead = replica.classifiers[0].scheduler.ahead
        async with asyncio.timeout(10):
            while len(ahead) < 2:
                await asyncio.sleep(0)
        assert [ticket.priority for ticket in ahead] == [priority] * 2
        engine.gate.set()
        assert levels(await asking) == [1, 2]
        assert levels(await running) == [0]


async def test_a_flood_is_refused_before_the_framework(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", deadline_ms=1000)
    async with client_of(replica) as client:
        replica.loop_lag.stop()
        replica.loop_lag.take(0.2)
        for path in (INFER, INFER + "/", "/v2/models/echo/versions/1/infer"):
            refused = await client.post(path, json=pixels(1))
            assert refused.status_code == 429
            assert isinstance(refused.json()["error"], str)
            assert refused.headers["retry-after"] == "1"
        patient = await client.post(INFER, json=pixels(1), headers={"x-deadline-ms": "60000"})
        assert levels(patient) == [1]
        assert (await client.post("/v2/models/nope/infer", json=pixels(1))).status_code == 404
    counted = replica.metrics.registry.get_sample_value(
        "mixer_requests_total", {"route": "/v2/models/{model}/infer", "code": "429"}
    )
    assert counted == 2
    assert outcomes(replica) == {"ok": 1, "rejected": 3}


async def test_statistics_count_requests_images_and_passes(client: httpx.AsyncClient) -> None:
    async def stats() -> dict[str, object]:
        (model,) = (await client.get("/v2/models/echo/stats")).json()["model_stats"]
        return model

    before = await stats()
    assert (before["inference_count"], before["execution_count"], before["last_inference"]) == (0, 0, 0)
    assert before["batch_stats"] == []
    body, headers = files(level_png(1))
    await client.post(INFER, content=body, headers=headers)
    await client.post(INFER, json=pixels(*range(40)))
    await client.post(INFER, json=pixels(1) | {"inputs": []})
    await client.post("/v1/classify", content=level_png(1))
    after = await stats()
    assert after["inference_count"] == 42
    counted = {batch["batch_size"]: batch["compute_infer"] for batch in after["batch_stats"]}
    assert sum(size * passes["count"] for size, passes in counted.items()) == 42
    assert sum(passes["count"] for passes in counted.values()) == after["execution_count"] < 42
    assert all(passes["ns"] > 0 for passes in counted.values())
    assert after["last_inference"] > 1_700_000_000_000
    inference = after["inference_stats"]
    assert (inference["success"]["count"], inference["fail"]["count"]) == (3, 1)
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert inference[stage]["count"] == 3
        assert 0 < inference[stage]["ns"] < inference["success"]["ns"]
    assert inference["cache_hit"] == inference["cache_miss"] == {"count": 0, "ns": 0}


async def test_several_models_each_have_their_statistics(tmp_path: Path) -> None:
    write_bundle(tmp_path, "first", "3")
    write_bundle(tmp_path, "second", "1")
    async with client_of(replica_around(EchoEngine(), tmp_path)) as client:
        assert levels(await client.post("/v2/models/second/infer", json=pixels(1, 2))) == [1, 2]
        models = (await client.get("/v2/models/stats")).json()["model_stats"]
    assert [(model["name"], model["version"], model["inference_count"]) for model in models] == [
        ("first", "3", 0),
        ("second", "1", 2),
    ]


async def test_several_versions_of_a_model(tmp_path: Path) -> None:
    for version in ("2", "10"):
        write_bundle(tmp_path, "echo", version)
    async with client_of(replica_around(EchoEngine(), tmp_path, models="echo/2,echo/10")) as client:
        assert (await client.post(INFER, json=pixels(1))).json()["model_version"] == "10"
        older = await client.post("/v2/models/echo/versions/2/infer", json=pixels(1))
        assert older.json()["model_version"] == "2"
        for path in ("/v2/models/echo", "/v2/models/echo/versions/2"):
            assert (await client.get(path)).json()["versions"] == ["2", "10"]
            policy = (await client.get(f"{path}/config")).json()["version_policy"]
            assert policy == {"specific": {"versions": [2, 10]}}
        both = (await client.get("/v2/models/echo/stats")).json()["model_stats"]
        assert [(model["version"], model["inference_count"]) for model in both] == [("10", 1), ("2", 1)]
        (one,) = (await client.get("/v2/models/echo/versions/2/stats")).json()["model_stats"]
        assert one["version"] == "2"


async def test_not_ready_while_draining(client: httpx.AsyncClient, replica: Replica) -> None:
    replica.drain()
    for path in ("/v2/health/ready", "/v2/models/echo/ready"):
        refused = await client.get(path)
        assert refused.status_code == 503
        assert refused.json() == {"error": "the service is shutting down"}
    assert (await client.get("/v2/health/live")).status_code == 200


async def test_keys_are_asked_for_except_by_probes(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(hashlib.sha256(b"open sesame").hexdigest())
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    model = "/v2/models/echo"
    async with client_of(replica) as client:
        for path in ("/v2", model, f"{model}/config", f"{model}/stats", "/v2/models/stats"):
            refused = await client.get(path)
            assert refused.status_code == 401
            assert isinstance(refused.json()["error"], str)
            assert (await client.get(path, headers={"x-api-key": "open sesame"})).status_code == 200
        assert (await client.post(INFER, json=pixels(1))).status_code == 401
        assert levels(await client.post(INFER, json=pixels(1), headers={"x-api-key": "open sesame"})) == [1]
        for path in ("/v2/health/live", "/v2/health/ready", f"{model}/ready"):
            assert (await client.get(path)).status_code == 200


async def test_openapi_describes_inference(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    assert operation["requestBody"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert operation["responses"].keys() >= {"200", "400", "404", "413", "415", "422", "429", "500", "503", "504"}
    assert operation["responses"]["200"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert "/v2/" not in document["paths"]
    operations = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(set(operations)) == len(operations)
    assert "$defs" not in json.dumps(document)


async def test_an_image_that_fails_withdraws_the_others(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    body, headers = files(*(level_png(level) for level in range(20)), b"no image")
    async with client_of(replica) as client:
        refused = await client.post(INFER, content=body, headers=headers | {"x-deadline-ms": "600000"})
        assert refused.status_code == 415
        assert "image 20: " in refused.json()["error"]
        assert replica.admission.inflight == 0
        engine.gate.set()
    assert len(engine.batch_sizes) <= 1
    counted = outcomes(replica)
    assert sum(counted.values()) == 21
    assert counted["cancelled"] >= 18


async def test_large_requests_and_answers_are_worked_on_beside_the_event_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    to_thread = asyncio.to_thread

    async def noted(work, *arguments):  # type: ignore[no-untyped-def]
        used.append(work.func.__name__)
        return await to_thread(work, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    assert levels(await client.post(INFER, json=pixels(4))) == [4]
    assert used == []
    monkeypatch.setattr("service.v2.infer.LARGE", 0)
    assert levels(await client.post(INFER, json=pixels(4))) == [4]
    assert used == ["parse", "answer"]
    assert (await client.post(INFER, content=b"{")).status_code == 400
