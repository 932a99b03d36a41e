"""How a checkpoint was evaluated: the short side resized to size / crop_pct, then a centre crop (timm's terms)."""

import math
from collections.abc import Sequence

from pydantic import ValidationError

from model_export.checkpoints.tensor_file import CheckpointError
from service.bundles.manifest import Preprocessing

CROP_PCT = 0.875  # 256 for 224: big_vision, timm and mmpretrain alike
HALF = (0.5, 0.5, 0.5)


def evaluated_with(
    image_size: int,
    interpolation: str,
    crop_pct: float = CROP_PCT,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = HALF,
) -> Preprocessing:
    """The preprocessing in the bundle's terms; raises CheckpointError if the service could not reproduce it."""
    if not 0 < crop_pct <= 1:
        raise CheckpointError(f"crop_pct is {crop_pct}, it must be above 0 and at most 1")
    if not all(map(math.isfinite, [*mean, *std])) or not all(value > 0 for value in std):
        raise CheckpointError(f"mean {list(mean)} and std {list(std)} must be finite, and std positive")
    try:
        return Preprocessing.model_validate(
            {
                "resize_short": math.floor(image_size / crop_pct),  # as timm rounds
                "interpolation": interpolation,
                "crop": image_size,
                "mean": tuple(mean),
                "std": tuple(std),
            }
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckpointError(f"{problem['loc'][0]} {problem['input']!r} is not supported: {problem['msg']}") from None
