"""RGB or gray image -> pixels: the uint8 array that the engine takes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.arrays import Pixels
from service.bundles.manifest import Preprocessing
from service.images.decode import Box, ImageInfo, decode

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Short side to `resize_short`, centre crop to `crop`, as the model was evaluated (see its manifest)."""

    spec: Preprocessing

    def __call__(self, image: Image.Image, area: Box | None = None) -> Pixels:
        """Resample the crop's region of `area`, or of the whole image, straight to uint8 [crop, crop, 3].

        The region is that of torchvision's Resize followed by CenterCrop, rounding included; only it is
        resampled, so an image of extreme shape never becomes a huge intermediate. That `decode` has scaled the image by
        a power of two changes no rounding.
        """
        spec = self.spec
        x, y, right, bottom = area or (0, 0, *image.size)
        if right - x <= bottom - y:
            width, height = spec.resize_short, max(spec.crop, int(spec.resize_short * (bottom - y) / (right - x)))
        else:
            width, height = max(spec.crop, int(spec.resize_short * (right - x) / (bottom - y))), spec.resize_short
        left, top = round((width - spec.crop) / 2), round((height - spec.crop) / 2)
        scale_x, scale_y = (right - x) / width, (bottom - y) / height
        box = (
            x + left * scale_x,
            y + top * scale_y,
            x + (left + spec.crop) * scale_x,
            y + (top + spec.crop) * scale_y,
        )
        resized = image.resize((spec.crop, spec.crop), _FILTERS[spec.interpolation], box=box)
        return np.asarray(resized if resized.mode == "RGB" else resized.convert("RGB"))


Prepare = Callable[[bytes], tuple[Pixels, ImageInfo]]


def preparation(preprocessing: Preprocessing, max_pixels: int) -> Prepare:
    """Encoded bytes -> pixels, and what the client is told of the image. Raises the ServiceErrors of `decode`."""
    preprocess = Preprocessor(preprocessing)
    smallest = 2 * preprocessing.resize_short  # so that the filter still has two pixels to weigh for one

    def prepare(data: bytes) -> tuple[Pixels, ImageInfo]:
        rgb, image, area = decode(data, max_pixels, smallest=smallest, keep_gray=True)
        return preprocess(rgb, area), image

    return prepare
