"""Decoded samples -> RGB of 8 bits: transparency laid on white, 16 bits a channel computed with as such.

In strips of rows, so that no copy but the result has the image's size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.errors import UnsupportedImage
from service.images.stripped import Samples

_STRIP = 2**16  # pixels, whose channels then stay in a core's cache

Channels = list[npt.NDArray[Any]]  # integers [rows, width] each


def in_strips(size: tuple[int, int], convert: Callable[[tuple[int, int, int, int]], Image.Image]) -> Image.Image:
    """The RGB image of `size` whose boxes `convert` makes."""
    width, height = size
    rows = max(1, _STRIP // width)
    if height <= rows:
        return convert((0, 0, width, height))
    result = Image.new("RGB", size)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        result.paste(convert(box), box)
    return result


def flattened(image: Image.Image) -> Image.Image:
    """What is transparent laid on white: alpha, or a colour or palette entry that the image's `info` names."""

    def convert(box: tuple[int, int, int, int]) -> Image.Image:
        part = image.crop(box)
        if part.mode != "RGBA":
            part = part.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB")

    return in_strips(image.size, convert)


def composed(images: list[Image.Image], samples: Samples, inverted: bool = False) -> Image.Image:
    """Of gray images, one for each channel, of 1 to 16 bits."""
    # Of fewer than 8 bits, Pillow makes 0 to 255.
    largest = {"1": 1, "L": 255}.get(images[0].mode, 2**samples.bits - 1)

    def convert(box: tuple[int, int, int, int]) -> Image.Image:
        return compose([np.asarray(image.crop(box)) for image in images], samples, largest, inverted)

    return in_strips(images[0].size, convert)


def compose(channels: Channels, samples: Samples, largest: int, inverted: bool = False) -> Image.Image:
    """Channels of 0 to `largest` -> RGB, rounded once.

    Raises UnsupportedImage if it depends on a channel of which the file does not say that it is alpha.
    """
    levels = [channel.astype(np.float32) * np.float32(1 / largest) for channel in channels]
    if samples.colours == "cmyk":
        colours = [(1 - ink) * (1 - levels[3]) for ink in levels[:3]]
        beside = levels[4:]
    else:
        count = 3 if samples.colours == "rgb" else 1
        colours, beside = levels[:count], levels[count:]
    if inverted:
        colours = [1 - colour for colour in colours]
    if samples.alpha == "undeclared" and channels[-1].min() < largest:
        raise UnsupportedImage("the file does not say what its channel beside the colours is", reason="samples")
    if samples.alpha == "premultiplied":
        colours = [np.minimum(colour + (1 - beside[0]), 1) for colour in colours]
    elif samples.alpha == "straight":
        colours = [1 - beside[0] * (1 - colour) for colour in colours]
    if samples.transparent is not None:
        is_clear = np.logical_and.reduce([c == t for c, t in zip(channels, samples.transparent, strict=True)])
        colours = [np.where(is_clear, 1, colour) for colour in colours]
    rgb = np.empty((*channels[0].shape, 3), np.uint8)
    for number in range(3):
        rgb[..., number] = colours[number % len(colours)] * 255 + np.float32(0.5)
    return Image.fromarray(rgb)
