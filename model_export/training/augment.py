"""One training image: RGB image -> pixels, cropped, flipped and augmented by random numbers of its own."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from model_export.training.randaugment import randaugment
from service.arrays import Pixels
from service.bundles.manifest import Preprocessing
from service.images.preprocess import Preprocessor

Crop = Literal["inception", "resmall", "resize", "center"]
_LAYERS = 2  # of RandAugment: "we always use two", appendix B of the Mixer paper


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image before it is learnt from, in this order."""

    preprocessing: Preprocessing
    crop: Crop
    flip: bool  # left to right, half of the time
    magnitude: float  # of RandAugment; 0: none

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Pixels:
        """Upright RGB -> uint8 [crop, crop, 3]; the same `random` gives the same pixels."""
        image = _CROPS[self.crop](image, self.preprocessing, random)
        if self.flip and random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.magnitude:
            image = randaugment(image, _LAYERS, self.magnitude, random)
        return np.asarray(image)


def _inception_crop(image: Image.Image, spec: Preprocessing, random: np.random.Generator) -> Image.Image:
    """5 to 100 % of the area at an aspect of 3:4 to 4:3 (Szegedy et al. 2015), resized to a square of `crop`."""
    for _ in range(100):
        area = random.uniform(0.05, 1) * image.width * image.height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if width <= image.width and height <= image.height:
            left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
            return _resize(image, (left, top, left + width, top + height), spec)
    return _resize(image, (0, 0, *image.size), spec)  # far from square: nothing fitted


def _resmall_crop(image: Image.Image, spec: Preprocessing, random: np.random.Generator) -> Image.Image:
    """Small side to `resize_short`, then a random square of `crop`: what evaluation does, off its centre."""
    scale = spec.resize_short / min(image.size)
    width, height = max(spec.crop, int(image.width * scale)), max(spec.crop, int(image.height * scale))
    return _random_square(image, (width, height), spec, random)


def _resize_crop(image: Image.Image, spec: Preprocessing, random: np.random.Generator) -> Image.Image:
    """Both sides to `resize_short`, whatever their ratio, then a random square of `crop`."""
    return _random_square(image, (spec.resize_short, spec.resize_short), spec, random)


def _center_crop(image: Image.Image, spec: Preprocessing, random: np.random.Generator) -> Image.Image:
    """What evaluation sees."""
    del random
    return Image.fromarray(Preprocessor(spec)(image))


def _random_square(
    image: Image.Image, size: tuple[int, int], spec: Preprocessing, random: np.random.Generator
) -> Image.Image:
    """A square of `crop` out of the image at `size`; only its region is resampled, as in evaluation."""
    width, height = size
    left, top = random.integers(width - spec.crop, endpoint=True), random.integers(height - spec.crop, endpoint=True)
    scale_x, scale_y = image.width / width, image.height / height
    box = (left * scale_x, top * scale_y, (left + spec.crop) * scale_x, (top + spec.crop) * scale_y)
    return _resize(image, box, spec)


def _resize(image: Image.Image, box: tuple[float, float, float, float], spec: Preprocessing) -> Image.Image:
    return image.resize((spec.crop, spec.crop), Image.Resampling[spec.interpolation.upper()], box=box)


_CROPS = {"inception": _inception_crop, "resmall": _resmall_crop, "resize": _resize_crop, "center": _center_crop}
