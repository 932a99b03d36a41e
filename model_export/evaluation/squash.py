"""The other way to prepare an image: squashed to a square, its sides' ratio lost."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from service.arrays import Pixels
from service.bundles.manifest import Preprocessing
from service.images.preprocess import Preprocessor

Resize = Literal["short", "squash"]


@dataclass(frozen=True)
class Squash:
    """Both sides to `resize_short`, then the central square of `crop`.

    The paper's "resize-crop": its table 2 and its few-shot accuracies see images so (appendix C), from 256 to 224.
    """

    spec: Preprocessing

    def __call__(self, image: Image.Image) -> Pixels:
        """RGB -> uint8 [crop, crop, 3]; only the square's region is resampled."""
        spec = self.spec
        margin = (1 - spec.crop / spec.resize_short) / 2
        width, height = image.size
        box = (width * margin, height * margin, width * (1 - margin), height * (1 - margin))
        return np.asarray(image.resize((spec.crop, spec.crop), Image.Resampling[spec.interpolation.upper()], box=box))


def preprocessor(spec: Preprocessing, resize: Resize) -> Preprocessor | Squash:
    """`short` is what the service does, `squash` the paper's other way."""
    return Squash(spec) if resize == "squash" else Preprocessor(spec)
