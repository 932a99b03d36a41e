"""Whether an allocation failed: most decoders have one word for want of memory and for a damaged file."""

import ctypes
import errno
import sys
from contextlib import suppress
from typing import Any


def _errno_of_this_thread() -> Any:
    """C's errno, which a failing malloc sets (malloc(3)) and what succeeds leaves alone; None where it is not known."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            place = ctypes.CDLL(None).__errno_location
            place.restype = ctypes.POINTER(ctypes.c_int)
            return place
    return None


_PLACE = _errno_of_this_thread()


def watch() -> None:
    """Forget what failed so far."""
    if _PLACE:
        _PLACE().contents.value = 0


def one_failed() -> bool:
    """Whether memory ran out since `watch`, in this thread. False as well anywhere but on Linux."""
    return bool(_PLACE) and _PLACE().contents.value == errno.ENOMEM
