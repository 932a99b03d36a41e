from dataclasses import replace

import pytest

from model_export.tensorrt.cache_key import cache_key
from model_export.tensorrt.profile import Profile
from service.engines.gpu.device import Gpu

GPU = Gpu("NVIDIA Test", "8.9", "13.0")
PARTS = {"model": b"model", "tensorrt_version": "10.16.1.11", "gpu": GPU, "profile": Profile(1, 8, 64)}


def test_the_same_parts_give_the_same_key() -> None:
    assert cache_key(**PARTS) == cache_key(**PARTS)


@pytest.mark.parametrize(
    "change",
    [
        {"model": b"another"},
        {"tensorrt_version": "11.4.0.106"},
        {"gpu": replace(GPU, name="NVIDIA Other")},
        {"gpu": replace(GPU, compute_capability="9.0")},
        {"gpu": replace(GPU, driver_api="13.2")},
        {"profile": Profile(1, 8, 32)},
        {"profile": Profile(1, 16, 64)},
    ],
    ids=str,
)
def test_every_part_counts(change: dict[str, object]) -> None:
    assert cache_key(**PARTS | change) != cache_key(**PARTS)
