"""The judge of a layout: the picture that an independent writer stored, or a refusal with the layout's name."""

import numpy as np
import numpy.typing as npt

from service.errors import UnsupportedImage
from service.images.decode import decode

LIMIT = 10_000_000
Picture = npt.NDArray[np.floating]  # [height, width, 3], 0 to 1


def judge(data: bytes, picture: Picture, within: float = 1) -> str:
    """`right`, the message of a 415, or how far the worst pixel is off, in levels of 255."""
    try:
        got = np.asarray(decode(data, LIMIT).image).astype(float)
    except UnsupportedImage as refused:
        return refused.message
    if got.shape != picture.shape:
        return f"WRONG: {got.shape} for {picture.shape}"
    worst = float(np.abs(got - 255 * picture).max())
    return "right" if worst <= within else f"WRONG: off by {worst:.1f}"


def on_white(colour: Picture, alpha: npt.NDArray[np.floating]) -> Picture:
    """Straight colours [height, width, 3] with their alpha [height, width]."""
    return np.asarray(colour * alpha[..., None] + 1 - alpha[..., None])


def gray(levels: npt.NDArray[np.floating]) -> Picture:
    """[height, width] -> [height, width, 3]."""
    return np.repeat(levels[..., None], 3, axis=-1)
