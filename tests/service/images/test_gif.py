"""GIF: frames of every size, place and palette, written here by the specification."""

import struct
from itertools import product

import numpy as np
import pytest

from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.images.decode import decode
from tests.service.images.expected import LIMIT, judge, on_white


def blocks(data: bytes) -> bytes:
    return b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255)) + b"\0"


def lzw(indices: np.ndarray, size: int) -> bytes:
    """Section 22 and appendix F, with a clear code before the table grows: codes of size + 1 bits alone."""
    bits, count, clear = 0, 0, 1 << size
    for number, index in enumerate(indices.ravel().tolist()):
        codes = [clear, index] if number % (clear - 2) == 0 else [index]
        for code in codes:
            bits |= code << count
            count += size + 1
    bits |= clear + 1 << count
    return bytes([size]) + blocks(bits.to_bytes((count + size + 8) // 8, "little"))


def frame(
    indices: np.ndarray, size: int, at: tuple[int, int] = (0, 0), palette: np.ndarray | None = None,
    interlaced: bool = False,
) -> bytes:  # fmt: skip
    height, width = indices.shape
    if interlaced:
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        indices = indices[order]
    flags = (0x80 | size - 1 if palette is not None else 0) | (0x40 if interlaced else 0)
    local = palette.tobytes() if palette is not None else b""
    return b"," + struct.pack("<HHHHB", *at, width, height, flags) + local + lzw(indices, size)


def control(transparent: int | None = None, disposal: int = 0) -> bytes:
    return b"!\xf9\x04" + bytes([disposal << 2 | (transparent is not None), 5, 0, transparent or 0, 0])


def gif(screen: tuple[int, int], size: int, palette: np.ndarray | None, *parts: bytes, background: int = 0) -> bytes:
    flags = 0x80 | size - 1 if palette is not None else 0
    colours = palette.tobytes() if palette is not None else b""
    return b"GIF89a" + struct.pack("<HHBBB", *screen, flags, background, 0) + colours + b"".join(parts) + b";"


def colours_of(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2**size, 3), np.uint8)


@pytest.mark.parametrize("size", [2, 3, 4, 7, 8])
def test_every_layout_is_right(size: int) -> None:
    random = np.random.default_rng(size)
    height, width = 9, 11
    indices = random.integers(0, 2**size, (height, width))
    for interlaced, local, transparent, disposal, (left, top, right, bottom), animated in product(
        (False, True), (False, True), (None, int(indices[0, 0])), (0, 1, 2, 3),
        ((0, 0, 0, 0), (0, 0, 4, 3), (2, 5, 0, 0), (1, 2, 3, 4)), (False, True),
    ):  # fmt: skip
        palette, other = colours_of(size, 1), colours_of(size, 2)
        first = frame(indices, size, (left, top), palette if local else None, interlaced)
        second = frame(np.zeros((2, 2), int), size)
        data = gif(
            (left + width + right, top + height + bottom), size, other if local else palette,
            control(transparent, disposal), first, *([control(), second] if animated else []), background=1,
        )  # fmt: skip
        picture = np.ones((top + height + bottom, left + width + right, 3))
        alpha = (indices != transparent).astype(float)
        picture[top : top + height, left : left + width] = on_white(palette[indices] / 255, alpha)
        assert judge(data, picture) == "right"


INDICES = np.random.default_rng(0).integers(0, 4, (6, 7))
COLOURS = colours_of(2)
PICTURE = COLOURS[INDICES] / 255


def test_a_frame_beyond_its_screen_makes_it_larger() -> None:
    for screen in ((0, 0), (3, 3), (7, 6)):
        assert judge(gif(screen, 2, COLOURS, frame(INDICES, 2)), PICTURE) == "right"


def test_gray_palettes_and_black_and_white() -> None:
    for levels in ([0, 85, 170, 255], [255, 170, 85, 0], [0, 1, 2, 3], [0, 255, 0, 255]):
        palette = np.repeat(np.array(levels, np.uint8)[:, None], 3, axis=1)
        assert judge(gif((7, 6), 2, palette, frame(INDICES, 2)), palette[INDICES] / 255) == "right"


def test_extensions_of_any_kind_change_nothing() -> None:
    for extension in (
        b"!\xfe" + blocks(bytes(5000)),
        b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
        b"!\xff" + blocks(b"XMP DataXMP" + bytes(range(256)) * 30),
        b"!\x01" + blocks(bytes(12)),
        b"!\x99" + blocks(b"unknown"),
        b"!\xf9\x03\0\0\0\0",
        b"!\xfe\0",
    ):
        assert judge(gif((7, 6), 2, COLOURS, extension, frame(INDICES, 2), extension), PICTURE) == "right"


def test_a_file_cut_behind_its_first_frame_is_whole_and_one_cut_within_is_not() -> None:
    whole = gif((7, 6), 2, COLOURS, frame(INDICES, 2))
    data = whole[:-1] + control() + frame(INDICES, 2)
    assert {judge(data[:cut], PICTURE) for cut in range(len(whole) - 1, len(data))} == {"right"}
    for cut in (7, 12, 20, 26, len(whole) - 8):
        with pytest.raises(InvalidImage, match="GIF"):
            decode(whole[:cut], LIMIT)


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedImage, match="without a palette"):
        decode(gif((7, 6), 2, None, frame(INDICES, 2)), LIMIT)
    with pytest.raises(InvalidImage, match="palette of 2"):
        decode(gif((7, 6), 1, COLOURS[:2], frame(INDICES | 2, 2)), LIMIT)
    with pytest.raises(ImageTooLarge, match="65535x65535"):
        decode(gif((65_535, 65_535), 2, COLOURS, frame(INDICES, 2)), LIMIT)
    with pytest.raises(ImageTooLarge, match="65540x6"):
        decode(gif((7, 6), 2, COLOURS, frame(INDICES, 2, (65_533, 0))), LIMIT)


def test_the_blocks_of_all_extensions_count_together() -> None:
    extension = b"!\xfe" + 1500 * b"\1x" + b"\0"
    picture = frame(np.zeros((2, 2), int), 2)
    decode(gif((2, 2), 2, colours_of(2), extension, picture), LIMIT)
    with pytest.raises(ImageTooLarge, match="too many pieces"):
        decode(gif((2, 2), 2, colours_of(2), *3 * [extension], picture), LIMIT)
