"""What is measured: a Mixer's weights and fixed images, the same on every machine."""

from dataclasses import dataclass

import numpy as np

from model_export.bundles.samples import photograph_like
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.training.start import starting_checkpoint
from service.arrays import PixelBatch

IMAGES = 32
CALIBRATION_IMAGES = 16
CLASSES = 1000  # of a variant with random weights


@dataclass(frozen=True)
class Subject:
    """One model and the pixels it is shown."""

    name: str
    checkpoint: Checkpoint
    images: PixelBatch  # for speed and agreement
    calibration: PixelBatch  # others, for quantisers

    def batch(self, size: int) -> PixelBatch:
        """The first `size` images, again from the first where there are fewer."""
        return self.images[np.arange(size) % len(self.images)]


def make_subject(source: str) -> Subject:
    """A variant with seeded random weights, or a checkpoint's own; raises CheckpointError for neither."""
    checkpoint = starting_checkpoint(source, CLASSES, seed=0)
    side = checkpoint.config.image_size
    pixels = np.stack([photograph_like(seed, side, side) for seed in range(IMAGES + CALIBRATION_IMAGES)])
    return Subject(source, checkpoint, pixels[:IMAGES], pixels[IMAGES:])
