"""Want of memory, for images of every format, in a process that has as much as a lane at its limit."""

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from service.errors import InvalidImage
from service.images.decode import decode
from service.images.formats import FORMATS

SIDE = 1200
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)).resize((SIDE, SIDE))
ROOMS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)  # MiB

PROGRAM = f"""
import os, sys
from service.images.decode import decode
from service.lanes.memory import bound_memory, held_bytes
data = sys.stdin.buffer.read()
for room in {ROOMS}:
    if not os.fork():
        bound_memory(held_bytes() + room * 2**20)
        try:
            decode(data, 50_000_000)
            told = b"decoded"
        except BaseException as error:
            told = type(error).__name__.encode()
        os.write(1, told + b" ")
        os._exit(0)
    if os.wait()[1]:
        os.write(1, b"died ")
"""


def encoded(format_: str, **options: object) -> Callable[[], bytes]:
    def encode() -> bytes:
        file = io.BytesIO()
        PICTURE.save(file, {"HEIC": "HEIF"}.get(format_, format_), **options)
        return file.getvalue()

    return encode


def told(data: bytes) -> list[str]:
    """How decoding ends, by the room that there is for it."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], input=data, stdout=subprocess.PIPE, check=True, timeout=60)
    return ran.stdout.decode().split()


FILES = {
    **{format_: encoded(format_) for format_ in FORMATS},
    "AVIF": encoded("AVIF", speed=10),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "JPEG without an end": lambda: encoded("JPEG", progressive=True)()[:-2],
    "lossless WEBP": encoded("WEBP", lossless=True, method=0),
    "TIFF with LZW": encoded("TIFF", compression="tiff_lzw"),
    "TIFF with JPEG": encoded("TIFF", compression="jpeg"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is Linux's")
@pytest.mark.parametrize("name", FILES)
def test_want_of_memory_is_not_damage(name: str) -> None:
    ends = told(FILES[name]())
    assert len(ends) == len(ROOMS)
    assert set(ends) <= {"MemoryError", "decoded", "died"}  # a library may end itself, and with it a lane
    assert "MemoryError" in ends


@pytest.mark.parametrize("name", FILES)
def test_damage_is_damage_where_there_is_memory(name: str) -> None:
    data = FILES[name]()
    with pytest.raises(InvalidImage):
        decode(data[: len(data) // 2], 50_000_000)
