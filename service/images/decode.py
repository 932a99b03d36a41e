"""Encoded bytes -> RGB image, with every damage found here and nothing decoded that is too large."""

import ctypes
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from service.errors import ImageTooLarge, InvalidImage, MalformedRequest, ServiceError
from service.images.avif import still
from service.images.header import BoundedReader, check_chunks, check_work, sniff

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

_BYTE = 8  # bits
_EXIF_BYTES = 2**20  # an orientation beyond it is not looked for

# Odd metadata is nobody's concern if the pixels decode, and our own limit is exact.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Pillow's words for how pixels are stored -> ours; whatever is not here is called by Pillow's, in lower case.
_STORED_AS = {
    **dict.fromkeys(("1",), "bilevel"),
    **dict.fromkeys(("L", "LA"), "gray"),
    **dict.fromkeys(("I", "I;16", "I;16B", "I;16L", "I;16N"), "gray16"),
    **dict.fromkeys(("P", "PA"), "palette"),
    **dict.fromkeys(("RGB", "RGBA", "RGBX"), "rgb"),
}


def _silence_libtiff() -> None:
    """Have it keep to itself what it thinks of a file: it writes to standard error, among our log lines."""
    if not sys.platform.startswith("linux"):
        return
    libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libtiff" in line}
    for library in map(ctypes.CDLL, libraries):
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


_silence_libtiff()


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


def decode(
    data: bytes,
    max_pixels: int,
    on_header: Callable[[int], object] = lambda pixels: None,
    smallest: int | None = None,
) -> Decoded:
    """Decode the first frame to upright RGB: EXIF orientation applied, transparency flattened on white.

    16-bit gray is scaled to 8 bits; palette, gray and CMYK are converted; ICC profiles are ignored. `on_header` is
    called with the number of its pixels before any is decoded.

    `smallest` is the least short side that the caller can use. Given it, a JPEG is decoded at 1/8, 1/4 or 1/2 of its
    size if its short side is at least `smallest` even then: the decoder averages in the frequency domain, in a fraction
    of the time. Reduced by 2 or more from there, a photograph differs by less than 1 of 255 on average from one
    decoded in full.

    Raises:
        MalformedRequest: `data` is empty.
        UnsupportedImage: the bytes do not begin like an accepted format, or are compressed in a way that is not.
        ImageTooLarge: the header announces more than `max_pixels` pixels, or more work than such an image needs.
        InvalidImage: the bytes are truncated or damaged.
    """
    if not data:
        raise MalformedRequest("the image is empty", reason="empty_image")
    format_ = sniff(data)
    if format_ == "PNG":
        check_chunks(data)
    if format_ == "AVIF":
        data = still(data)
    # Pillow's own guard refuses twice this, and looks where its parsers allocate before they return: the canvas of a
    # WebP, the area that a GIF's first frame disposes of.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        reader = BoundedReader(data, format_)
        with Image.open(reader, formats=[format_]) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise _too_large(f"the image has {image.width}x{image.height} pixels", max_pixels)
            check_work(data, format_, image, reader.tell(), max_pixels)
            reader.header_is_read()
            # In full, whatever the scale: of a progressive JPEG the decoder holds every coefficient.
            on_header(pixels)
            size = image.size
            scale = _draft(image, smallest) if smallest else 1
            announced = _orientation(image)
            if format_ == "TIFF":
                image.is_animated = True  # type: ignore[attr-defined]  # else Pillow goes on to read all of its metadata
            image.load()
            orientation = _orientation(image)  # a PNG's may follow its pixels; a TIFF is turned by Pillow on load
            stored = (
                _STORED_AS.get(image.mode, image.mode.lower()),
                image.has_transparency_data,
                bool(image.info.get("icc_profile")),
            )
            rgb = _to_rgb(image, depth=data[24] if format_ == "PNG" else 8)
    except (ServiceError, MemoryError):  # want of memory is no damage
        raise
    except Image.DecompressionBombError:
        raise _too_large("the image's header announces too many pixels", max_pixels) from None
    # Pillow's decoders raise whatever the damage provokes: OSError, SyntaxError, struct.error, ValueError, ...
    except Exception as error:
        raise InvalidImage(f"the {format_} data is truncated or damaged") from error
    covered = (size[0] / scale, size[1] / scale) if scale > 1 else rgb.size
    rgb, area = _upright(rgb, covered, orientation)
    width, height = round((area[2] - area[0]) * scale), round((area[3] - area[1]) * scale)
    turned = orientation in _UPRIGHT or announced in _UPRIGHT
    return Decoded(rgb, ImageInfo(width, height, format_, turned, *stored), area)


def _too_large(what: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(f"{what}; at most {max_pixels} are accepted", reason="pixels")


def _draft(image: Image.Image, smallest: int) -> int:
    """Have a JPEG decoded at 1/scale, a power of two, with no side under `smallest`; returns scale, 1 for the rest."""
    width = image.width
    drafted = image.draft(None, (smallest, smallest))
    return round(width / drafted[1][2]) if drafted else 1


def _orientation(image: Image.Image) -> int:
    if len(image.info.get("exif") or b"") > _EXIF_BYTES:
        return 1
    for packet in ("xmp", "XML:com.adobe.xmp"):  # where Pillow would look next, and browsers do not
        image.info.pop(packet, None)
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF beside intact pixels: show them as stored
        return 1


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


def _to_rgb(image: Image.Image, depth: int) -> Image.Image:
    """`depth` is a PNG's bits a sample, in which its transparent colour is told."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it to white
        return _from_16_bits(image, transparent)
    if isinstance(transparent, int) and image.mode in ("1", "L"):
        image.info["transparency"] = transparent * 255 // (2**depth - 1)
    elif isinstance(transparent, tuple) and depth > _BYTE:
        image.info["transparency"] = tuple(value >> _BYTE for value in transparent)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy


def _from_16_bits(image: Image.Image, transparent: int | None) -> Image.Image:
    gray = np.asarray(image)
    scaled = ((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero
        scaled = 255 - scaled
    if isinstance(transparent, int):
        scaled[gray == transparent] = 255
    return Image.fromarray(scaled).convert("RGB")
