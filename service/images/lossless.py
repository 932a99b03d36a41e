"""A picture in memory -> an encoded image that decodes to it, so that it goes the way of every other."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = Image.Image | npt.NDArray[np.uint8]  # an array is [H, W, 3] RGB

_AS_THEY_ARE = ("1", "L", "LA", "P", "RGB", "RGBA")  # modes that a PNG holds
_CONVERTED = {
    **dict.fromkeys(("CMYK", "YCbCr", "HSV", "RGBX"), "RGB"),
    **dict.fromkeys(("PA", "RGBa"), "RGBA"),
    "La": "LA",
}


def encoded(picture: Picture) -> bytes:
    """A picture as a BMP or PNG.

    A Pillow image as it was opened is turned as its EXIF orientation says, as its file would be; any other is as it
    lies in memory, whatever it was made from.

    Raises TypeError for what is no picture; ValueError for an empty one, an array of another type or shape, and images
    whose numbers are no brightness by themselves (modes I, F and LAB); OSError, or what else Pillow does, if the file
    that an image was opened from is damaged.
    """
    if isinstance(picture, Image.Image):
        return _of_image(picture)
    if isinstance(picture, np.ndarray):
        return _of_array(picture)
    raise TypeError(
        f"{type(picture).__name__} is not taken for an image: it takes paths, bytes, Pillow images and numpy arrays"
    )


def _of_image(image: Image.Image) -> bytes:
    if 0 in image.size:
        raise ValueError(f"the image is empty: {image.width}x{image.height}")
    if image.mode.startswith("I;16"):
        converted = image.convert("I").convert("I;16")  # from I;16B at once, Pillow would make 8 bits
    elif image.mode in _CONVERTED:
        converted = image.convert(_CONVERTED[image.mode])
    elif image.mode in _AS_THEY_ARE:
        converted = image
    else:
        raise ValueError(f"an image of mode {image.mode} does not say what is white: convert it to RGB or L first")
    exif = image.getexif() if image.format else None
    file = io.BytesIO()
    if converted.mode == "RGB" and not exif:
        converted.save(file, "BMP")  # in a fortieth of a PNG's time
    else:
        converted.save(file, "PNG", compress_level=0, icc_profile=None, exif=exif or b"")
    return file.getvalue()


def _of_array(pixels: npt.NDArray[Any]) -> bytes:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"an array of {pixels.dtype} {list(pixels.shape)} is not taken for an image: it takes uint8 [H, W, 3], "
            "RGB from 0 to 255, and a list of them for several images"
        )
    if 0 in pixels.shape:
        raise ValueError(f"the image is empty: {list(pixels.shape)}")
    return _of_image(Image.fromarray(np.ascontiguousarray(pixels)))
