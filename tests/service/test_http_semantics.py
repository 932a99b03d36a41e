"""What HTTP itself asks of every route: methods, negotiation, compression, other origins."""

import base64
import gzip
import re
import zlib
from pathlib import Path

import httpx
import pytest

from tests.doubles import EchoEngine, level_png, replica_around
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio

ORIGIN = "https://example.org"


async def test_only_json_is_there_to_be_accepted(client: httpx.AsyncClient) -> None:
    for accept, status in (("application/*", 200), ("text/html", 406), ("application/json;q=0", 406)):
        response = await client.post("/v1/classify", content=level_png(1), headers={"accept": accept})
        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["code"] == "not_acceptable"
    both = [("accept", "text/html"), ("accept", "application/json")]
    assert (await client.post("/v1/classify", content=level_png(1), headers=both)).status_code == 200


ALLOWED = {
    "/v1/classify": "OPTIONS, POST",
    "/healthz/live": "GET, HEAD, OPTIONS",
    "/healthz/ready": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
    "/docs": "GET, HEAD, OPTIONS",
    "/v2/models/echo/config": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_options_head_and_what_is_not_allowed(client: httpx.AsyncClient, path: str) -> None:
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, ALLOWED[path], b"")
    refused = await client.delete(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, ALLOWED[path])
    assert refused.json()["error"]
    assert (await client.head(path)).status_code == (200 if "HEAD" in ALLOWED[path] else 405)
    assert options.headers["x-request-id"]


async def test_options_of_no_route_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.options("/nowhere")).status_code == 404


async def test_compressed_bodies(client: httpx.AsyncClient) -> None:
    image = level_png(77)
    form = httpx.Request("POST", "http://x", files=[("image", image), ("image", level_png(3))])
    document = b'{"image": "%b"}' % base64.b64encode(image)
    for encoding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)):
        for type_, body in (("image/png", image), ("application/json", document)):
            headers = {"content-encoding": encoding, "content-type": type_}
            response = await client.post("/v1/classify", content=compress(body), headers=headers)
            assert response.json()["predictions"][0]["index"] == 77
        headers = {"content-encoding": encoding, "content-type": form.headers["content-type"]}
        response = await client.post("/v1/classify", content=compress(form.read()), headers=headers)
        assert [result["predictions"][0]["index"] for result in response.json()["results"]] == [77, 3]


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code", "reason"),
    [
        ("gzip", gzip.compress(bytes(10_001)), 413, "payload_too_large", "body_bytes"),
        ("deflate", zlib.compress(bytes(10_001)), 413, "payload_too_large", "body_bytes"),
        ("gzip", b"x" * 10_001, 413, "payload_too_large", "body_bytes"),
        ("gzip", gzip.compress(level_png(1))[:-3], 400, "malformed_request", "compression"),
        ("deflate", level_png(1), 400, "malformed_request", "compression"),
        ("br", level_png(1), 415, "unsupported_encoding", None),
    ],
)
async def test_compressed_bodies_that_are_refused(
    client: httpx.AsyncClient,
    encoding: str,
    body: bytes,
    status: int,
    code: str,
    reason: str | None,
) -> None:
    response = await client.post("/v1/classify", content=body, headers={"content-encoding": encoding})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error.get("reason")) == (status, code, reason)
    assert response.headers.get("accept-encoding") == ("gzip, deflate" if encoding == "br" else None)


async def test_json_takes_what_a_browser_reads_from_a_file(client: httpx.AsyncClient) -> None:
    encoded = base64.b64encode(level_png(9)).decode()
    for prefix in ("", "data:image/png;base64,", "data:;base64,"):
        response = await client.post("/v1/classify", json={"image": prefix + encoded})
        assert response.json()["predictions"][0]["index"] == 9
    for bad in ("data:image/png," + encoded, "data:image/png;base64" + encoded, [encoded], None, 3):
        response = await client.post("/v1/classify", json={"image": bad})
        assert (response.status_code, response.json()["error"]["reason"]) == (400, "json")


async def test_other_origins_are_left_out_unless_they_are_named(client: httpx.AsyncClient) -> None:
    preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
    for response in (
        await client.options("/v1/classify", headers=preflight),
        await client.post("/v1/classify", content=level_png(1), headers={"origin": ORIGIN}),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(("origins", "allowed"), [(f"https://other.org, {ORIGIN}", ORIGIN), ("*", "*")])
async def test_a_named_origin_may_send_and_read_everything(tmp_path: Path, origins: str, allowed: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text("0" * 64)
    replica = replica_around(
        EchoEngine(), tmp_path / "models", cors_origins=origins, max_body_bytes=10_000, max_inflight_bytes=10_000
    )
    async with client_of(replica) as client:
        asked = "content-type,content-encoding,x-api-key,authorization,x-deadline-ms,x-priority,x-request-id"
        preflight = await client.options(
            "/v1/classify",
            headers={
                "origin": ORIGIN,
                "access-control-request-method": "POST",
                "access-control-request-headers": asked,
            },
        )
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, allowed)
        assert "access-control-allow-credentials" not in preflight.headers
        headers = {"origin": ORIGIN}
        replica.loop_lag.stop()
        ok = await client.post("/v1/classify", content=level_png(1), headers=headers)
        broken = await client.post("/v1/classify", content=b"", headers=headers)
        too_large = await client.post("/v1/classify", content=bytes(10_001), headers=headers)
        lost = await client.get("/nowhere", headers=headers)
        replica.loop_lag.take(60.0)
        shed = await client.post("/v1/classify", content=level_png(1), headers=headers)
        responses = (ok, broken, too_large, lost, shed)
        assert [response.status_code for response in responses] == [200, 400, 413, 404, 429]
        for response in responses:
            assert response.headers["access-control-allow-origin"] == allowed
            exposed = response.headers["access-control-expose-headers"].lower().split(", ")
            assert {"retry-after", "server-timing", "x-request-id"} <= set(exposed)
        stranger = await client.get("/healthz/live", headers={"origin": "https://stranger.org"})
        assert stranger.headers.get("access-control-allow-origin") == ("*" if allowed == "*" else None)


@pytest.mark.parametrize(
    "refused",
    [
        {"origin": "https://stranger.org"},
        {"access-control-request-method": "DELETE"},
        {"access-control-request-headers": "x-api-key, x-surprise"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_a_preflight_that_is_refused_gets_an_error_like_any_other(
    tmp_path: Path, refused: dict[str, str]
) -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", cors_origins=ORIGIN)) as client:
        for path in ("/v1/classify", "/v2/models/echo/infer"):
            assert (await client.options(path, headers=asked)).status_code == 200
            response = await client.options(path, headers=asked | refused | {"x-request-id": "mine"})
            assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
            error = response.json()["error"]
            assert error["reason"] == "cross_origin" if path == "/v1/classify" else isinstance(error, str)
            assert response.headers["x-request-id"] == "mine"
            assert "POST" in response.headers["access-control-allow-methods"]


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/docs/swagger-ui.css"])
@pytest.mark.parametrize("given", ["bytes=0-1", "bytes=9999999-", "bytes=x", "lines=1-2", "bytes=5-2", ""])
async def test_a_file_is_served_whole_whatever_range_is_asked_for(
    client: httpx.AsyncClient,
    path: str,
    given: str,
) -> None:
    whole = await client.get(path)
    part = await client.get(path, headers={"range": given})
    assert (part.status_code, part.content) == (200, whole.content)
    assert part.headers["accept-ranges"] == "none"


@pytest.mark.parametrize("prefix", ["", "/mixer"])
async def test_the_docs_need_no_other_host(tmp_path: Path, prefix: str) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", root_path=prefix)) as client:
        page = (await client.get("/docs")).text
        assert "http" not in re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
        addresses = re.findall(r"""(?:src|href)="(.*?)"|url: ['"](.*?)['"]""", page)
        assert len(addresses) == 4
        for address in map("".join, addresses):
            assert not address.startswith("/")  # so that any proxy's prefix stays
            assert (await client.get(f"/{address}")).status_code == 200
        described = (await client.get("/openapi.json")).json()
        assert described.get("servers") == [{"url": prefix or "/"}]
        assert (await client.get("/docs/../app.py")).status_code == 404
        assert (await client.get("/docs/nothing.js")).status_code == 404
