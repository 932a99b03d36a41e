"""Encoded bytes -> RGB image, with every damage found here and nothing decoded that is too large."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from service.errors import ImageTooLarge, MalformedRequest, ServiceError
from service.images import allocations, bmp, gif, isobmff, jpeg, libwebp, png, tiff, webp
from service.images.formats import FORMATS
from service.images.load import load
from service.images.sniff import accepted
from service.images.stripped import Stripped, damaged

# EXIF orientation -> the operation that turns the stored pixels upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Those that swap width and height, and those that take a stored right or bottom edge to the left, and to the top.
_SWAPPED, _TO_LEFT, _TO_TOP = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)

_STRIP: dict[str, Callable[[bytes, int], Stripped]] = {
    "JPEG": jpeg.strip,
    "PNG": png.strip,
    "WEBP": webp.strip,
    "GIF": gif.strip,
    "BMP": bmp.strip,
    "TIFF": tiff.strip,
    "AVIF": lambda data, max_pixels: isobmff.strip(data, "AVIF", max_pixels),
    "HEIC": lambda data, max_pixels: isobmff.strip(data, "HEIC", max_pixels),
}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the client is told about its image; width and height are those of the upright image."""

    width: int
    height: int
    format: str
    orientation_applied: bool
    stored_as: str = "rgb"  # or bilevel, gray, gray16, palette, cmyk, ycbcr
    alpha_flattened: bool = False
    icc_ignored: bool = False


Box = tuple[float, float, float, float]  # left, top, right, bottom


class Decoded(NamedTuple):
    """An upright RGB image, perhaps smaller than the client's, and where in it the client's image lies.

    `area` is all of `image`, but for the part of an edge pixel that lies beyond the client's image where its side is
    no multiple of the scale: a side of 1001 pixels decoded at 1/4 has 251, of which the image covers 250.25.
    """

    image: Image.Image
    info: ImageInfo
    area: Box


def decode(data: bytes, max_pixels: int, smallest: int | None = None, *, keep_gray: bool = False) -> Decoded:
    """Decode the first frame to upright RGB: EXIF orientation applied, transparency flattened on white.

    16-bit gray is scaled to 8 bits; palette, gray and CMYK are converted; ICC profiles are ignored.

    `smallest` is the least short side that the caller can use. Given it, a JPEG is decoded at 1/8, 1/4 or 1/2 of its
    size if its short side is at least `smallest` even then: the decoder averages in the frequency domain, in a fraction
    of the time. Reduced by 2 or more from there, a photograph differs by less than 1 of 255 on average from one
    decoded in full.

    `keep_gray` leaves what is stored as 8-bit gray in one channel, for a caller to whom three of a kind cost time.

    Raises:
        MalformedRequest: `data` is empty.
        UnsupportedImage: the bytes do not begin like an accepted format, or are stored in a way that is not decoded.
        ImageTooLarge: the header announces more than `max_pixels` pixels, or more work than such an image needs.
        InvalidImage: the bytes are truncated or damaged.
        MemoryError: there is too little for an image within the limits.
    """
    if not data:
        raise MalformedRequest("the image is empty", reason="empty_image")
    format_ = accepted(data, FORMATS)
    stripped: Stripped | None = None
    allocations.watch()
    try:
        stripped = _STRIP[format_](data, max_pixels)
        loaded = load(stripped, format_, max_pixels, smallest, keep_gray)
    # Pillow's decoders raise whatever the damage provokes: OSError, SyntaxError, struct.error, ValueError, ...
    except Exception as error:
        if allocations.one_failed():
            raise MemoryError(str(error)) from error
        if isinstance(error, ServiceError | MemoryError):
            raise
        if format_ == "WEBP" and stripped is not None and libwebp.finds_no_damage(stripped.data):
            raise MemoryError(str(error)) from error
        if "Security limit exceeded" in str(error):  # libheif's, by the size that the container announces
            raise ImageTooLarge(f"the {format_} holds more than it announces", reason="pixels") from error
        raise damaged(format_) from error
    stripped, scale = loaded.stripped, loaded.scale
    covered = (stripped.width / scale, stripped.height / scale) if scale > 1 else loaded.rgb.size
    rgb, area = _upright(loaded.rgb, covered, stripped.orientation)
    info = ImageInfo(
        width=round((area[2] - area[0]) * scale),
        height=round((area[3] - area[1]) * scale),
        format=format_,
        orientation_applied=stripped.turned or stripped.orientation in _UPRIGHT,
        stored_as=loaded.stored_as,
        alpha_flattened=loaded.alpha_flattened,
        icc_ignored=stripped.has_profile,
    )
    return Decoded(rgb, info, area)


def _upright(image: Image.Image, covered: tuple[float, float], orientation: int) -> tuple[Image.Image, Box]:
    """The stored image turned, and where its first `covered` columns and rows are then."""
    width, height = covered
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if orientation in _SWAPPED:
        width, height = height, width
    left = image.width - width if orientation in _TO_LEFT else 0
    top = image.height - height if orientation in _TO_TOP else 0
    return image, (left, top, left + width, top + height)
