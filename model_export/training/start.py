"""Where training starts: a checkpoint, or a variant with random weights."""

import math
from dataclasses import replace

import torch

from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from model_export.mlp_mixer import MlpMixer
from model_export.training.grow import grow
from model_export.training.snapshot import TrainingError
from model_export.variants import VARIANTS, Gelu, MixerConfig, config_of
from service.bundles.manifest import Preprocessing


def starting_checkpoint(
    start: str,
    classes: int,
    seed: int,
    image_size: int | None = None,
    resize_short: int | None = None,
    gelu: Gelu = "erf",
) -> Checkpoint:
    """The weights that `start`, a variant's name or a checkpoint's path, stands for, for images of `image_size` pixels.

    A checkpoint is grown to a larger `image_size`; a variant is made for it, with a head for `classes` and with `gelu`.
    `resize_short` replaces the preprocessing's. Raises CheckpointError, or TrainingError for sizes that do not fit.
    """
    if start in VARIANTS:
        checkpoint = _random_variant(start, classes, seed, image_size, gelu)
    else:
        checkpoint = read_checkpoint(start)
        checkpoint = grow(checkpoint, image_size or checkpoint.config.image_size)
    if resize_short is None:
        return checkpoint
    if resize_short < checkpoint.config.image_size:
        raise TrainingError(f"--resize-short {resize_short} is below the image size {checkpoint.config.image_size}")
    preprocessing = checkpoint.preprocessing.model_copy(update={"resize_short": resize_short})
    return replace(checkpoint, preprocessing=preprocessing)


def _random_variant(name: str, classes: int, seed: int, image_size: int | None, gelu: Gelu) -> Checkpoint:
    config = config_of(name, classes, gelu)
    try:
        config = replace(config, image_size=image_size or config.image_size)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    torch.manual_seed(seed)
    return Checkpoint(config, dict(MlpMixer(config).state_dict()), _paper_preprocessing(config), "mixer")


def _paper_preprocessing(config: MixerConfig) -> Preprocessing:
    """Small side to 8/7 of the crop (256 for 224, appendix C), values from -1 to 1."""
    return Preprocessing(
        resize_short=math.floor(config.image_size * 8 / 7),
        interpolation="bilinear",
        crop=config.image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
