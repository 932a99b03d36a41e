from pathlib import Path

import pytest

from service.bundles.bundle import BundleError
from service.lanes.lane import LoadFailure
from tests.doubles import EchoEngine, ThreadLanes, replica_around, started, write_bundle
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


async def test_the_batch_size_is_chosen_unless_it_is_told(tmp_path: Path) -> None:
    for told in (0, 3):
        replica = replica_around(EchoEngine(), tmp_path / str(told), max_batch_size=told)
        async with client_of(replica) as client:
            config = (await client.get("/v2/models/echo/config")).json()
            assert config["pass_seconds"].keys() == ({"1", "2", "4", "8", "16"} if told == 0 else {"1", "2", "3"})
            assert config["engine_max_batch_size"] in ([1, 2, 4, 8, 16] if told == 0 else [3])


async def test_a_bundle_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, "right")
    (tmp_path / "right").rename(tmp_path / "wrong")
    with pytest.raises(BundleError, match="its manifest calls it right/1"):
        await replica_around(EchoEngine(), tmp_path).start()


async def test_a_link_that_is_moved_meanwhile_does_not_mix_two_bundles(tmp_path: Path) -> None:
    """kubelet's atomic writer: the names are links into ..data, which is a link that is replaced by a rename."""
    write_bundle(tmp_path / "..2026_01_01", "a")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a").symlink_to("..data/a")
    replica = replica_around(EchoEngine(), tmp_path)
    read: list[str] = []
    spawn = replica.loader.spawn
    async with started(replica):
        assert isinstance(spawn, ThreadLanes)
        (classifier,) = replica.models.classifiers
        (order,) = classifier.lanes._lanes.values()
        read.append(order.bundle)
    assert read == [str(tmp_path / "..2026_01_01" / "a" / "1")]


@pytest.mark.parametrize("settings", [{"threads": 1000}, {"lanes": 1000}])
async def test_more_than_there_are_cores_is_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"MIXER_LANES \d+ times MIXER_THREADS \d+ exceeds"):
        await replica_around(EchoEngine(), tmp_path / "models", **settings).start()


async def test_an_engine_that_cannot_run_the_model_is_told(tmp_path: Path) -> None:
    class Broken(EchoEngine):
        def run(self, pixels):  # type: ignore[no-untyped-def]
            raise RuntimeError("no such instruction")

    with pytest.raises(LoadFailure, match="no such instruction"):
        await replica_around(Broken(), tmp_path / "models").start()
