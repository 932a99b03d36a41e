from pathlib import Path

import httpx
import pytest

from tests.doubles import EchoEngine, level_png, replica_around, write_bundle
from tests.service.api.v2.messages import INFER, files, levels, pixels
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


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
