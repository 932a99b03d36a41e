"""Pillow, set up for one still image at a time from a stranger; nothing else here opens a file."""

import ctypes
import io
import sys
import warnings
from pathlib import Path

from PIL import AvifImagePlugin, Image, TiffImagePlugin

from service.images.formats import FORMATS

# Odd metadata is nobody's concern if the pixels decode, and our own limit is exact.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
Image.MAX_IMAGE_PIXELS = None

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the lanes are the parallelism
TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reader takes planes of 16 bits for ones of 8

_NAMES = {"HEIC": "HEIF"}
if "HEIC" in FORMATS:
    import pillow_heif

    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def _silence_libtiff() -> None:
    """Have it keep to itself what it thinks of a file: it writes to standard error, among our log lines."""
    if not sys.platform.startswith("linux"):
        return
    libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libtiff" in line}
    for library in map(ctypes.CDLL, libraries):
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


_silence_libtiff()


def open_image(data: bytes, format_: str) -> Image.Image:
    """Read the header; `load` then decodes, from one read of the file."""
    image = Image.open(io.BytesIO(data), formats=[_NAMES.get(format_, format_)])
    image.decodermaxblock = max(len(data), 65_536)
    return image
