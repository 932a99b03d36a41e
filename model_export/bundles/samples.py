"""Photograph-like images for parity and golden files, for checkpoints that come without images of their own."""

import io

import numpy as np
from PIL import Image

from service.arrays import Pixels

# Wide, tall, square, smaller and larger than usual inputs, so that resizing and cropping are exercised.
_SIZES = ((320, 240), (150, 200), (256, 256), (300, 225), (97, 61), (400, 125), (128, 128), (48, 64))


def sample_pngs() -> dict[str, bytes]:
    """Colour gradients, soft blobs and noise, always the same, as lossless PNGs by file name."""
    pngs = {}
    for seed, (width, height) in enumerate(_SIZES):
        file = io.BytesIO()
        Image.fromarray(photograph_like(seed, width, height)).save(file, "PNG", optimize=True)
        pngs[f"sample-{seed}.png"] = file.getvalue()
    return pngs


def photograph_like(seed: int, width: int, height: int) -> Pixels:
    """One such image, uint8 [height, width, 3], the same for a seed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slopes = random.uniform(-110, 110, (2, 1, 1, 3))
    image = 128 + slopes[0] * (x[..., None] - 0.5) + slopes[1] * (y[..., None] - 0.5)
    for _ in range(10):
        (cx, cy), radius = random.uniform(0, 1, 2), random.uniform(0.03, 0.3)
        blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * radius**2))
        image += blob[..., None] * random.uniform(-100, 100, 3)
    image += random.normal(0, 2, (height, width, 1))
    pixels: Pixels = image.clip(0, 255).astype(np.uint8)
    return pixels
