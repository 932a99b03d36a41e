import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.models.replica import Replica
from tests.doubles import EchoEngine, FailingEngine, level_png, replica_around, write_bundle
from tests.service.replicas import client_of, outcomes

pytestmark = pytest.mark.anyio


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


async def test_a_batch_in_json_is_answered_like_a_form(client: httpx.AsyncClient, replica: Replica) -> None:
    images = [base64.b64encode(image).decode() for image in (level_png(1), b"not an image", level_png(3))]
    first, second, third = (await client.post("/v1/classify", json={"images": images})).json()["results"]
    assert (first["predictions"][0]["index"], third["predictions"][0]["index"]) == (1, 3)
    assert second["error"]["code"] == "unsupported_image"
    assert outcomes(replica) == {"ok": 2, "invalid": 1}
    alone = await client.post("/v1/classify", json={"images": images[:1]})
    assert alone.json()["predictions"][0]["index"] == 1


async def test_a_parameter_that_is_unknown_or_in_the_body_is_not_left_out_silently(client: httpx.AsyncClient) -> None:
    for request_ in (
        {"content": level_png(1), "params": {"topk": 1}},
        {"files": {"image": level_png(1)}, "data": {"top_k": "1"}},
        {"json": {"image": base64.b64encode(level_png(1)).decode(), "top_k": 1}},
    ):
        response = await client.post("/v1/classify", **request_)  # type: ignore[arg-type]
        assert (response.status_code, response.json()["error"]["reason"]) == (400, "parameter")
        assert "top_k" in response.json()["error"]["message"]


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
        pytest.param({"content": b'{"image": ""}'}, 415, "unsupported_image", id="json under another type"),
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


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/classify", 405), ("GET", "/nowhere", 404)])
async def test_the_frameworks_refusals_look_like_ours(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"].keys() == {"code", "message"}


async def test_the_last_passes_can_be_looked_at_where_that_is_enabled(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        hidden = await client.get("/debug/passes")
        assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "not_found")
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", debug=True)) as client:
        for level in (1, 2):
            await client.post("/v1/classify", content=level_png(level))
        newest, oldest = (await client.get("/debug/passes")).json()
    assert newest["at"] > oldest["at"]
    assert (newest["model"], newest["size"], newest["reason"], newest["wide"]) == ("echo", 1, "idle", True)
    assert newest.keys() >= {"waited_ms", "forecast_ms", "batch_ms", "pass_ms", "left_waiting", "dropped"}


async def test_a_fault_of_ours_is_500_without_its_text(tmp_path: Path) -> None:
    replica = replica_around(FailingEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        response = await client.post("/v1/classify", content=level_png(66))
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal"
        assert response.headers["x-request-id"] in response.json()["error"]["message"]
        assert "secret" not in response.text
    assert outcomes(replica) == {"error": 1}


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
