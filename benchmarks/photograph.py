"""Images with a photograph's statistics, so that figures need no data set: detail at every scale, and hard edges."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

_CONTRAST = 14  # standard deviation of an octave, of 255
_FINEST = 0.4  # of that at one pixel, where a lens is soft
_COLOUR = 0.4  # of the contrast, in each channel by itself


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """RGB noise of equal power in every octave (1/f) behind some ellipses of one colour each."""
    random = np.random.default_rng(seed)
    levels = np.full((height, width, 3), 128, np.float32)
    cell = max(width, height) // 2
    while cell >= 1:
        shape = (height // cell + 2, width // cell + 2)
        contrast = _CONTRAST * (_FINEST if cell == 1 else 1)
        levels += contrast * _enlarged(random.standard_normal(shape), width, height)[..., None]
        if cell >= 4:  # eyes and lenses resolve less colour than light
            for channel in range(3):
                levels[..., channel] += contrast * _COLOUR * _enlarged(random.standard_normal(shape), width, height)
        cell //= 2
    image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = random.uniform(0, width), random.uniform(0, height)
        a, b = random.uniform(0.01, 0.12, 2) * max(width, height)
        draw.ellipse((x - a, y - b, x + a, y + b), tuple(random.integers(0, 256, 3).tolist()))
    return image


def _enlarged(noise: npt.NDArray[np.float64], width: int, height: int) -> npt.NDArray[np.float32]:
    return np.asarray(Image.fromarray(noise.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
