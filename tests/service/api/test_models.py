from pathlib import Path

import httpx
import pytest

from tests.doubles import CLASSES, SIDE, EchoEngine, replica_around, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


async def test_everything_that_is_loaded_the_default_first(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models", "old", "2")
    write_bundle(tmp_path / "models", "echo", "7", features=True)
    write_bundle(tmp_path / "models", "echo", "8", features=True)
    replica = replica_around(EchoEngine(), tmp_path / "models", models=["old", "echo/7", "echo/8"])
    async with client_of(replica) as client:
        response = await client.get("/v1/models")
        first, second, third = response.json()["models"]
        assert first == {
            "name": "old",
            "version": "2",
            "default": True,
            "state": "READY",
            "variant": "echo/4",
            "image_size": SIDE,
            "classes": CLASSES,
            "features": None,
            "precision": "fp32",
            "engine": "echo",
        }
        assert [(each["name"], each["version"], each["default"]) for each in (second, third)] == [
            ("echo", "8", False),
            ("echo", "7", False),
        ]
        assert (second["features"], second["state"]) == (3, "READY")


async def test_a_model_whose_lanes_are_gone_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        lanes = replica.models.classifiers[0].lanes
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(lanes, "_lanes", {})
            (model,) = (await client.get("/v1/models")).json()["models"]
        assert model["state"] == "UNAVAILABLE"


async def test_it_needs_a_key_where_keys_are_needed(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("0" * 64)
    async with client_of(replica_around(EchoEngine(), tmp_path / "m", api_keys_file=tmp_path / "keys")) as client:
        assert (await client.get("/v1/models")).status_code == 401


async def test_its_document(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/v1/models"]["get"]
    assert operation["responses"].keys() >= {"200", "401", "500"}
