from pathlib import Path

import pytest

from tests.doubles import EchoEngine, replica_around
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


async def test_a_models_config_says_how_it_runs_here(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", max_batch_size=4)
    async with client_of(replica) as client:
        config = (await client.get("/v2/models/echo/config")).json()
        assert (await client.get("/v2/models/echo/versions/1/config")).json() == config
        assert (config["name"], config["version"], config["precision"]) == ("echo", "1", "fp32")
        assert (config["engine"], config["lanes"], config["engine_max_batch_size"]) == ("echo", 1, 4)
        assert config["engines_considered"]["double"].startswith("echo: ")
        assert config["pass_seconds"].keys() == {"1", "2", "4"}
        rates = [int(size) / seconds for size, seconds in config["pass_seconds"].items()]
        assert config["images_per_second"] == pytest.approx(max(rates))
        exposed = replica.metrics.registry.get_sample_value(
            "mixer_calibrated_pass_seconds", {"model": "echo", "version": "1", "batch_size": "4"}
        )
        assert exposed == pytest.approx(config["pass_seconds"]["4"])
        for path in ("/v2/models/other/config", "/v2/models/echo/versions/9/config", "/v2/nonsense"):
            response = await client.get(path)
            assert response.status_code == 404
            assert isinstance(response.json()["error"], str)
