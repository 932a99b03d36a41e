"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few random operations, all at one magnitude.

Operations and their scales are those of the TensorFlow reference that trained the published Mixers (16 operations, full
scale at magnitude 10, beyond which they extrapolate); lengths are in proportion to its 224 pixels.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

_GRAY = (128, 128, 128)  # of what an operation leaves empty
_Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def randaugment(image: Image.Image, layers: int, magnitude: float, random: np.random.Generator) -> Image.Image:
    """Apply `layers` operations, each drawn from all 16; `magnitude` is m of the paper's table 4 (10 to 20 there)."""
    for _ in range(layers):
        operation = _OPERATIONS[random.integers(len(_OPERATIONS))]
        image = operation(image, magnitude / 10, random)
    return image


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_GRAY)


def _either(value: float, random: np.random.Generator) -> float:
    return value if random.random() < 0.5 else -value


def _rotate(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    return image.rotate(_either(30 * scale, random), Image.Resampling.BILINEAR, fillcolor=_GRAY)


def _shear_x(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    return _affine(image, 1, _either(0.3 * scale, random), 0, 0, 1, 0)


def _shear_y(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    return _affine(image, 1, 0, 0, _either(0.3 * scale, random), 1, 0)


def _translate_x(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    return _affine(image, 1, 0, _either(100 / 224 * scale * image.width, random), 0, 1, 0)


def _translate_y(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    return _affine(image, 1, 0, 0, 0, 1, _either(100 / 224 * scale * image.height, random))


def _cutout(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    half_x, half_y = 40 / 224 * scale * image.width, 40 / 224 * scale * image.height
    x, y = random.uniform(0, image.width), random.uniform(0, image.height)
    image = image.copy()
    ImageDraw.Draw(image).rectangle((x - half_x, y - half_y, x + half_x, y + half_y), fill=_GRAY)
    return image


def _solarize_add(image: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    del random
    added = int(110 * scale)
    return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> _Operation:
    return lambda image, scale, _: kind(image).enhance(1.8 * scale + 0.1)


_OPERATIONS: tuple[_Operation, ...] = (
    lambda image, scale, _: ImageOps.autocontrast(image),
    lambda image, scale, _: ImageOps.equalize(image),
    lambda image, scale, _: ImageOps.invert(image),
    lambda image, scale, _: ImageOps.posterize(image, max(1, min(8, int(4 * scale)))),  # bits that are kept
    lambda image, scale, _: ImageOps.solarize(image, int(256 * scale)),
    _solarize_add,
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Sharpness),
    _rotate,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
    _cutout,
)
