from pathlib import Path

import pytest

from service.bundles.bundle import BundleError
from tests.doubles import EchoEngine, replica_around, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


async def test_the_batch_size_is_chosen_unless_it_is_told(tmp_path: Path) -> None:
    for told in (0, 3):
        replica = replica_around(EchoEngine(), tmp_path / str(told), max_batch_size=told)
        async with client_of(replica) as client:
            config = (await client.get("/v2/models/echo/config")).json()
            assert config["pass_seconds"].keys() == ({"1", "2", "4", "8", "16"} if told == 0 else {"1", "2", "3"})
            assert config["engine_max_batch_size"] in ([1, 2, 4, 8, 16] if told == 0 else [3])


def test_a_bundle_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, "right")
    (tmp_path / "right").rename(tmp_path / "wrong")
    with pytest.raises(BundleError, match="its manifest calls it right/1"):
        replica_around(EchoEngine(), tmp_path)


def test_more_engine_threads_than_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MIXER_THREADS 1000 exceeds"):
        replica_around(EchoEngine(), tmp_path / "models", threads=1000)
