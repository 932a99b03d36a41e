import hashlib
from pathlib import Path

import httpx
import pytest

from service.models.replica import Replica
from tests.doubles import CLASSES, SIDE, EchoEngine, replica_around, write_bundle
from tests.service.api.v2.messages import INFER, levels, pixels
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats", "/infer"])
async def test_a_query_is_refused_and_never_left_out_silently(client: httpx.AsyncClient, path: str) -> None:
    for model in ("/v2/models/echo", "/v2/models/echo/versions/1"):
        method, body = ("POST", pixels(1)) if path == "/infer" else ("GET", None)
        response = await client.request(method, f"{model}{path}?version=2", json=body)
        assert (response.status_code, response.json()) == (
            400,
            {"error": "unknown query parameter 'version'; this route has none"},
        )


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


async def test_an_unforeseen_exception_is_a_message_too(
    replica: Replica, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica.models, "find", lambda *_: 1 / 0)
    response = await client.get("/v2/models/echo")
    assert response.status_code == 500
    assert response.headers["x-request-id"] in response.json()["error"]


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
