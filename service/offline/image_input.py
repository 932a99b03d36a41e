"""What is given to be classified -> an encoded image."""

import errno
import os
import stat
from io import FileIO
from os import PathLike, fspath

from service.errors import PayloadTooLarge
from service.images.lossless import Picture, encoded

# A path, an encoded image, or a picture in memory.
ImageInput = str | PathLike[str] | bytes | bytearray | memoryview | Picture

_LARGEST_FILE = 256 * 2**20  # bytes


def read(image: ImageInput) -> bytes:
    """The encoded image.

    Raises OSError for a file that cannot be read, PayloadTooLarge for one of more than 256 MiB, and as `encoded` does.
    """
    if isinstance(image, str | PathLike):
        return _read_file(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    return encoded(image)


def _read_file(path: str | PathLike[str]) -> bytes:
    try:
        file = FileIO(fspath(path), opener=_open)
    except IsADirectoryError:
        os.scandir(path).close()  # which says why the files in it were not found, if there is a reason
        raise
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if status.st_size > _LARGEST_FILE:
            raise PayloadTooLarge(f"the file has {status.st_size} bytes, and {_LARGEST_FILE} are taken")
        return file.read()


def _open(path: str, flags: int) -> int:
    """Not to wait for whoever writes to a named pipe, which may be for ever."""
    return os.open(path, flags | os.O_NONBLOCK)
