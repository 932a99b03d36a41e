"""A stripped file -> its pixels as RGB, as they are stored: the only place where a decoder runs."""

import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from service.images import exif, isobmff, jpeg, png
from service.images.pillow import open_image
from service.images.rgb import Channels, compose, composed, flattened, in_strips
from service.images.stripped import Samples, Stripped, check_size, damaged

# Pillow's words for how pixels are stored -> ours; whatever is not here is called by Pillow's, in lower case.
_STORED_AS = {
    **dict.fromkeys(("1",), "bilevel"),
    **dict.fromkeys(("L", "LA", "La"), "gray"),
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), "gray16"),
    **dict.fromkeys(("P", "PA"), "palette"),
    **dict.fromkeys(("RGB", "RGBA", "RGBX"), "rgb"),
}
_WIDE = 16  # bits a channel
# What Pillow takes the upper byte of a channel with, and what it takes the lower one with.
_LOWER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


class Loaded(NamedTuple):
    """Pixels at 1/scale of the client's image, and what was done to them."""

    rgb: Image.Image
    scale: int
    stripped: Stripped  # with the size, whoever told it
    stored_as: str
    alpha_flattened: bool


def load(stripped: Stripped, format_: str, max_pixels: int, smallest: int | None, keep_gray: bool = False) -> Loaded:
    """Decode; of the parameters, `decode` tells.

    Raises whatever Pillow does, besides ServiceErrors.
    """
    with open_image(stripped.data, format_) as image:
        if not stripped.width:  # the container is Pillow's to read
            stripped = _told_by_decoder(image, stripped, format_, max_pixels)
        width, height = stripped.width, stripped.height
        samples, scale = stripped.samples, 1
        stored_as = _STORED_AS.get(image.mode, image.mode.lower())
        alpha = samples is not None and (samples.alpha is not None or samples.transparent is not None)
        if samples and stripped.planes:
            rgb = _of_planes(stripped.planes, format_, samples, stripped.inverted)
            stored_as = samples.colours if samples.colours != "gray" else stored_as
        elif samples and _needs_every_bit(samples):
            rgb = _of_every_bit(stripped.data, format_, samples)
        else:
            loaded, scale = _decoded(image, stripped.data, format_, smallest)
            rgb, alpha = _of_8_bits(loaded, stripped, format_, keep_gray)
    if stripped.at is not None:
        canvas = Image.new("RGB", (width, height), "white")
        canvas.paste(rgb, stripped.at)
        rgb, alpha = canvas, True
    return Loaded(rgb, scale, stripped, stored_as, alpha)


def _told_by_decoder(image: Image.Image, stripped: Stripped, format_: str, max_pixels: int) -> Stripped:
    check_size(*image.size, max_pixels)
    if format_ == "AVIF":
        isobmff.check_coded(stripped.data, image.width * image.height, max_pixels)
    return replace(
        stripped,
        width=image.width,
        height=image.height,
        orientation=exif.orientation(image.info.get("exif") or b""),
        has_profile=bool(image.info.get("icc_profile")),
    )


def _decoded(image: Image.Image, data: bytes, format_: str, smallest: int | None) -> tuple[Image.Image, int]:
    """The image loaded, of a JPEG at 1/scale, a power of two, with no side under `smallest`."""
    scale, width = 1, image.width
    if format_ == "JPEG" and smallest and (drafted := image.draft(None, (smallest, smallest))):
        scale = round(width / drafted[1][2])
    try:
        _load(image, data, format_, scale)
    except OSError:
        if format_ != "JPEG" or data.endswith(b"\xff\xd9"):
            raise
        data = jpeg.ended(data)
        return _decoded(open_image(data, format_), data, format_, smallest)
    return image, scale


def _load(image: Image.Image, data: bytes, format_: str, scale: int = 1) -> None:
    image.load()
    if format_ == "JPEG":
        side = max(1, 8 // scale)  # of a block; what the image has of the last one
        corner = (image.width - 1) // side * side, (image.height - 1) // side * side
        jpeg.check_complete(data, image.crop((*corner, *image.size)).tobytes(), scale)
    if format_ == "PNG":
        png.check_complete(data, image.crop((0, image.height - 1, *image.size)).tobytes())


def _of_8_bits(image: Image.Image, stripped: Stripped, format_: str, keep_gray: bool) -> tuple[Image.Image, bool]:
    """A loaded image of one of Pillow's modes as RGB, and whether something transparent was laid on white."""
    samples = stripped.samples
    if stripped.colours and image.mode in ("P", "L") and _largest(image) >= stripped.colours:
        raise damaged(format_, f"its pixels name colours that its palette of {stripped.colours} has not")
    if image.mode.startswith("I;16") or stripped.inverted:
        samples = samples or Samples("gray", None, _WIDE)
        return composed([image], samples, stripped.inverted), samples.transparent is not None
    if samples and samples.transparent and image.mode in ("1", "L"):  # which Pillow has scaled
        image.info["transparency"] = samples.transparent[0] * 255 // (2**samples.bits - 1)
    if samples and samples.alpha == "undeclared":
        return composed(list(image.split()), samples), False
    if format_ == "BMP" and image.mode == "RGBA" and _largest(image.getchannel("A")) == 0:
        return image.convert("RGB"), False  # an alpha that nobody filled in
    if image.has_transparency_data:
        return flattened(image), True
    as_it_is = image.mode == "RGB" or (keep_gray and image.mode == "L")
    return image if as_it_is else image.convert("RGB"), False


def _largest(image: Image.Image) -> int:
    extrema: Any = image.getextrema()
    return int(extrema[1])


def _of_planes(planes: tuple[bytes, ...], format_: str, samples: Samples, inverted: bool) -> Image.Image:
    images = [open_image(plane, format_) for plane in planes]
    for image in images:
        image.load()
    return composed(images, samples, inverted)


def _needs_every_bit(samples: Samples) -> bool:
    """Whether samples are computed with before they may be rounded, so that 8 bits of 16 would not do."""
    if samples.alpha == "premultiplied":  # which Pillow divides by alpha, and rounds
        return True
    transparent = samples.transparent is not None and samples.colours == "rgb"
    return samples.bits == _WIDE and (samples.alpha is not None or samples.colours == "cmyk" or transparent)


def _of_every_bit(data: bytes, format_: str, samples: Samples) -> Image.Image:
    """Of pixels whose channels lie beside each other: of 16 bits, the upper bytes are decoded and then the lower."""
    upper = open_image(data, format_)
    raw = _raw_mode(upper).replace("RGBa", "RGBA")
    if raw.startswith("LA;16"):  # four bytes a pixel, which need no second pass
        raw, lower = "RGBA", None
    elif raw[-4:] in _LOWER:
        lower = open_image(data, format_)
        _set_raw_mode(lower, raw[:-4] + _LOWER[raw[-4:]])
        lower.load()
    else:
        lower = None
    _set_raw_mode(upper, raw)
    _load(upper, data, format_)

    def convert(box: tuple[int, int, int, int]) -> Image.Image:
        channels: Channels = [np.asarray(channel).astype(np.uint16) for channel in upper.crop(box).split()]
        if lower is not None:
            below = [np.asarray(channel) for channel in lower.crop(box).split()]
            channels = [high * 256 + low for high, low in zip(channels, below, strict=True)]
        elif samples.bits == _WIDE:
            channels = [channels[i] * 256 + channels[i + 1] for i in (0, 2)]
        return compose(channels, samples, 2**samples.bits - 1)

    return in_strips(upper.size, convert)


def _raw_mode(image: Any) -> str:
    args = image.tile[0].args
    return str(args if isinstance(args, str) else args[0])


def _set_raw_mode(image: Any, raw: str) -> None:
    (tile,) = image.tile
    args = raw if isinstance(tile.args, str) else (raw, *tile.args[1:])
    image.tile = [tile._replace(args=args)]
