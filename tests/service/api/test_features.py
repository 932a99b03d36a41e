"""`/v1/features`, and the same as an output of `/v2`, of models with and without a head, and of bundles of old."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.errors import MalformedRequest
from service.models.replica import Replica
from tests.doubles import CLASSES, EchoEngine, HeadlessEngine, features_of, level_png, replica_around, write_bundle
from tests.service.api.v2.messages import INFER, pixels
from tests.service.replicas import client_of, outcomes

pytestmark = pytest.mark.anyio

OF_ALL = {"logits": CLASSES, "probabilities": CLASSES, "features": 3}


@pytest.fixture
async def replica(tmp_path: Path) -> Replica:
    write_bundle(tmp_path / "models", features=True)
    return replica_around(EchoEngine(), tmp_path / "models")


@pytest.fixture
async def headless(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_bundle(tmp_path / "headless", features=True, head=False)
    async with client_of(replica_around(HeadlessEngine(), tmp_path / "headless")) as client:
        yield client


def given(features: list[float]) -> bytes:
    return np.array(features, np.float32).tobytes()


def outputs(response: httpx.Response) -> dict[str, np.ndarray]:
    assert response.status_code == 200, response.text
    return {each["name"]: np.reshape(each["data"], each["shape"]) for each in response.json()["outputs"]}


async def test_the_features_of_one_image_to_the_last_bit(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/features", content=level_png(40, (6, 4)))
    assert response.status_code == 200, response.text
    body = response.json()
    assert body.keys() == {"model", "features", "image", "timing_ms"}
    assert body["model"] == {"name": "echo", "version": "1"}
    assert given(body["features"]) == features_of([40]).tobytes()
    assert (body["image"]["width"], body["image"]["height"]) == (6, 4)
    assert body["timing_ms"].keys() == {"receive", "decode", "queue", "infer", "post", "total"}


async def test_of_several_each_its_own_or_an_error(client: httpx.AsyncClient, replica: Replica) -> None:
    images = [level_png(1), b"not an image", level_png(3)]
    as_form = await client.post("/v1/features", files=[("image", image) for image in images])
    as_json = await client.post("/v1/features", json={"images": [base64.b64encode(image).decode() for image in images]})
    for response in (as_form, as_json):
        first, second, third = response.json()["results"]
        assert given(first["features"]) == features_of([1]).tobytes()
        assert second["error"]["code"] == "unsupported_image"
        assert given(third["features"]) == features_of([3]).tobytes()
    assert outcomes(replica) == {"ok": 4, "invalid": 2}


async def test_an_error_of_the_only_image_is_the_requests(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/features", content=level_png(1)[:-30])).status_code == 422
    assert (await client.post("/v1/features", content=b"")).status_code == 400
    response = await client.post("/v1/features?top_k=3", content=level_png(1))
    assert response.status_code == 400
    assert "unknown query parameter 'top_k'" in response.json()["error"]["message"]


async def test_classify_beside_it(client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/classify?top_k=1", content=level_png(9))).json()
    assert [each["index"] for each in body["predictions"]] == [9]
    assert "features" not in body


@pytest.mark.parametrize("asked", [["features"], ["features", "logits"], ["probabilities", "features"], ["logits"]])
async def test_v2_gives_what_is_asked_for(client: httpx.AsyncClient, asked: list[str]) -> None:
    found = outputs(await client.post(INFER, json=pixels(4, 5, outputs=[{"name": name} for name in asked])))
    assert list(found) == asked
    for name, values in found.items():
        if name == "features":
            np.testing.assert_array_equal(values.astype(np.float32), features_of([4, 5]))
        else:
            assert values.argmax(axis=1).tolist() == [4, 5]


async def test_v2_gives_no_features_to_who_names_no_output(client: httpx.AsyncClient) -> None:
    assert outputs(await client.post(INFER, json=pixels(4))).keys() == {"logits", "probabilities"}


async def test_v2_gives_features_in_binary(client: httpx.AsyncClient) -> None:
    asked = [{"name": "features", "parameters": {"binary_data": True}}]
    response = await client.post(INFER, json=pixels(4, 5, outputs=asked))
    length = int(response.headers["inference-header-content-length"])
    assert response.content[length:] == features_of([4, 5]).tobytes()


async def test_v2_does_not_rank_features(client: httpx.AsyncClient) -> None:
    asked = [{"name": "features", "parameters": {"classification": 2}}]
    response = await client.post(INFER, json=pixels(4, outputs=asked))
    assert (response.status_code, "features are not" in response.json()["error"]) == (400, True)


async def test_v2_describes_the_outputs_that_there_are(
    client: httpx.AsyncClient, headless: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "old")) as old:
        for each, expected in (
            (client, OF_ALL),
            (headless, {"features": 3}),
            (old, dict.fromkeys(("logits", "probabilities"), CLASSES)),
        ):
            described = (await each.get("/v2/models/echo")).json()["outputs"]
            assert {output["name"]: output["shape"][1] for output in described} == expected
            config = (await each.get("/v2/models/echo/config")).json()["output"]
            assert {output["name"]: output["dims"][0] for output in config} == expected
            assert all(("label_filename" in output) == (output["name"] != "features") for output in config)


async def test_a_model_without_a_head_gives_features_and_no_predictions(headless: httpx.AsyncClient) -> None:
    body = (await headless.post("/v1/features", content=level_png(7))).json()
    assert given(body["features"]) == features_of([7]).tobytes()
    refused = await headless.post("/v1/classify", content=level_png(7))
    assert refused.status_code == 400
    assert refused.json()["error"] == {
        "code": MalformedRequest.code,
        "message": "echo/1 has no head, so it predicts nothing; POST /v1/features gives its features",
        "reason": "no_head",
    }
    found = outputs(await headless.post(INFER, json=pixels(7)))
    np.testing.assert_array_equal(found["features"].astype(np.float32), features_of([7]))
    refused = await headless.post(INFER, json=pixels(7, outputs=[{"name": "logits"}]))
    assert refused.json() == {"error": "unknown output 'logits'; the model's are features"}


async def test_a_bundle_of_old_is_served_and_says_that_it_has_no_features(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "old")) as client:
        assert (await client.post("/v1/classify", content=level_png(7))).status_code == 200
        refused = await client.post("/v1/features", content=level_png(7))
        assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "no_features")
        assert "export it again" in refused.json()["error"]["message"]
        refused = await client.post(INFER, json=pixels(7, outputs=[{"name": "features"}]))
        assert refused.json() == {"error": "unknown output 'features'; the model's are logits, probabilities"}


async def test_the_document_describes_it(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/v1/features"]["post"]
    types = {"application/octet-stream", "multipart/form-data", "application/json"}
    assert operation["requestBody"]["content"].keys() == types
    assert {each["name"] for each in operation["parameters"]} >= {"model", "version", "X-Request-Id"}
    assert "top_k" not in {each["name"] for each in operation["parameters"]}
    examples = operation["responses"]["200"]["content"]["application/json"]["examples"]
    assert "features" in examples["one image"]["value"]
