import hashlib
import re
from pathlib import Path

import httpx
import pytest

import service
from service.bundles.bundle import load_bundle
from service.models.replica import Replica
from tests.doubles import EchoEngine, level_png, replica_around, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio

PAGE = Path(service.__file__).parent / "page"


@pytest.mark.parametrize("path", ["/", *(f"/page/{file.name}" for file in PAGE.iterdir())])
async def test_every_file_may_load_from_its_own_origin_alone_and_is_asked_about_before_reuse(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "//" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-cache"
    again = await client.get(path, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(response.content))


def test_the_page_names_no_address_but_relative_ones() -> None:
    """So that it works offline, and under a path prefix that a proxy strips."""
    for file in PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file
        assert not re.search(r"""(href|src|from|fetch\(|url\()\s*=?\s*["']/""", text), file


async def test_what_is_not_of_the_page_is_not_served(client: httpx.AsyncClient) -> None:
    for path in ("/page/nope.js", "/page/..%2fapp.py", "/page/%2e%2e%2fapp.py", "/page/", "/page/a%00b"):
        response = await client.get(path)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found"), path


@pytest.mark.filterwarnings("ignore:The .root_path. parameter is deprecated")
async def test_under_a_root_path_that_the_proxy_strips(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", root_path="/mixer")) as client:
        for path in ("/", "/page/page.js", "/page/status"):
            assert (await client.get(path)).status_code == 200


async def test_the_status_has_the_models_and_the_throughput(tmp_path: Path) -> None:
    write_bundle(tmp_path, "first")
    write_bundle(tmp_path, "second", "3")
    replica = replica_around(EchoEngine(), tmp_path, models=["second", "first"])
    replica.cores = 3.5  # those it was built for, whatever this machine has
    async with client_of(replica) as client:
        await client.post("/v1/classify", content=level_png(7))
        status = (await client.get("/page/status")).json()
    assert all(model.pop("capacity_images_per_second") > 0 for model in status["models"])
    assert status.pop("images_per_second_per_core") == pytest.approx(status.pop("images_per_second") / 3.5)
    assert status == {
        "ready": True,
        "default": {"name": "second", "version": "3"},
        "models": [
            {"name": "second", "version": "3", "digits": False, "samples": 2},
            {"name": "first", "version": "1", "digits": False, "samples": 2},
        ],
        "cores": 3.5,
    }


async def test_the_page_needs_no_key_and_the_status_does(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("0" * 64)
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", api_keys_file=tmp_path / "keys")) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/page/page.js")).status_code == 200
        assert (await client.get("/page/status")).status_code == 401


async def test_samples_are_the_golden_images_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(hashlib.sha256(b"key").hexdigest())
    write_bundle(tmp_path / "models")
    golden = load_bundle(tmp_path / "models" / "echo" / "1").golden()[0]
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=tmp_path / "keys")
    async with client_of(replica) as client:
        assert (await client.get("/page/samples/echo/1/0")).status_code == 401
        client.headers["x-api-key"] = "key"
        for number, image in enumerate(golden):
            assert (await client.get(f"/page/samples/echo/1/{number}")).content == image
        for path in (
            f"echo/1/{len(golden)}",
            "echo/1/-1",
            "echo/1/x",
            "echo/1/²",
            "echo/1/9999999",
            "echo/2/0",
            "none/1/0",
        ):
            assert (await client.get(f"/page/samples/{path}")).status_code == 404, path


async def test_a_draining_service_is_said_not_to_be_ready(client: httpx.AsyncClient, replica: Replica) -> None:
    replica.drain()
    assert (await client.get("/page/status")).json()["ready"] is False
