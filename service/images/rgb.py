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

_STRIP = 2**18  # pixels

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
    wide = [channel.astype(np.int64) for channel in channels]
    if samples.colours == "cmyk":
        black = largest - wide[3]
        colours, scale = [(largest - ink) * black for ink in wide[:3]], largest**2
    else:
        colours, scale = wide[: 3 if samples.colours == "rgb" else 1], largest
    if inverted:
        colours = [scale - colour for colour in colours]
    alpha = wide[len(colours)] if samples.alpha else wide[0]
    if samples.alpha == "undeclared" and alpha.min() < largest:
        raise UnsupportedImage("the file does not say what its channel beside the colours is", reason="samples")
    if samples.alpha == "premultiplied":
        colours = [np.minimum(colour + (largest - alpha), largest) for colour in colours]
    elif samples.alpha == "straight":
        colours = [colour * alpha + largest * (largest - alpha) for colour in colours]
        scale = largest**2
    if samples.transparent is not None:
        clear = np.logical_and.reduce([c == t for c, t in zip(wide, samples.transparent, strict=True)])
        colours = [np.where(clear, scale, colour) for colour in colours]
    levels = [((colour * 255 + scale // 2) // scale).astype(np.uint8) for colour in colours]
    return Image.fromarray(np.stack(levels if len(levels) == 3 else levels * 3, axis=-1))
