"""What libwebp itself says of a file: its memory runs out in a thread of its own, where `allocations` does not look."""

import ctypes
import sys
from functools import cache
from pathlib import Path

import PIL._webp  # noqa: F401 - which loads the library

_RGBA = 1  # enum WEBP_CSP_MODE (webp/decode.h)
_OK, _OUT_OF_MEMORY = 0, 1  # enum VP8StatusCode


def finds_no_damage(data: bytes) -> bool:
    """Whether a still image that could not be decoded is whole, as far as there was memory to see.

    False as well where the library is not known: anywhere but on Linux.
    """
    library = _library()
    if library is None:
        return False
    decoder = library.WebPINewRGB(_RGBA, None, 0, 0)
    if not decoder:
        return True
    try:
        return library.WebPIAppend(decoder, data, len(data)) in (_OK, _OUT_OF_MEMORY)
    finally:
        library.WebPIDelete(decoder)


@cache
def _library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libwebp" in line}
    for library in map(ctypes.CDLL, sorted(mapped)):
        if hasattr(library, "WebPINewRGB"):  # neither of libwebpmux nor of libwebpdemux
            library.WebPINewRGB.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            library.WebPINewRGB.restype = ctypes.c_void_p
            library.WebPIAppend.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
            library.WebPIDelete.argtypes = [ctypes.c_void_p]
            library.WebPIDelete.restype = None
            return library
    return None
