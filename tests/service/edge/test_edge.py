from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from service.edge.edge import Edge
from service.edge.request_log import RequestLog
from service.metrics import Metrics
from service.models.replica import Replica
from tests.doubles import level_png

pytestmark = pytest.mark.anyio


async def test_an_unforeseen_exception_is_500_with_the_request_id(
    replica: Replica, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(replica.models, "find", explode)
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


@pytest.mark.parametrize("path", ["/v1/classify", "/healthz/live", "/nowhere", "/openapi.json", "/docs", "/"])
async def test_safe_headers_once_on_every_answer(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("cache-control") == ["no-cache" if path == "/" else "no-store"]
    assert "server" not in response.headers


@pytest.mark.parametrize("path", ["/v1/classify/", "/v1/classify//", "/v2/models/echo//infer/"])
async def test_slashes_too_many_lead_to_the_same_place(client: httpx.AsyncClient, path: str) -> None:
    if "infer" in path:
        answer = await client.post(path, content=level_png(3), headers={"inference-header-content-length": "0"})
        assert answer.status_code == 200
    else:
        answer = await client.post(path, content=level_png(3))
        assert answer.json()["predictions"][0]["index"] == 3
    assert (await client.get("/healthz//live/")).status_code == 200
    assert (await client.get("/nowhere/")).status_code == 404


async def test_slashes_too_many_make_no_other_request_of_it() -> None:
    """Its connection says there why it refused, and the application when its deadline is."""
    passed: list[Scope] = []

    async def note(scope: Scope, _: Receive, send: Send) -> None:
        passed.append(scope)

    no_hot: Any = SimpleNamespace(find=lambda _: None)
    edge = Edge(note, Metrics(), lambda: False, no_hot, RequestLog("off"))
    scope = {"type": "http", "method": "GET", "path": "//nowhere//", "headers": []}
    await edge(scope, cast("Receive", None), cast("Send", None))
    assert passed[0] is scope
    assert scope["path"] == "/nowhere"
