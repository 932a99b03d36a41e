"""BMP: every header, depth and mask, written here from Microsoft's documentation."""

import struct
from itertools import product

import numpy as np
import pytest

from service.errors import InvalidImage, UnsupportedImage
from service.images.decode import decode
from tests.service.images.expected import LIMIT, judge, on_white

HEIGHT, WIDTH = 5, 7
HEADERS = (40, 52, 56, 64, 108, 124)


def bmp(
    header: int, bits: int, values: np.ndarray, palette: bytes = b"", masks: tuple[int, ...] = (),
    top_down: bool = False, compression: int | None = None, colours: int = 0,
) -> bytes:  # fmt: skip
    """`values` are [height, width] pixels of `bits`, the top row first."""
    spread = (values[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint64) & 1).reshape(len(values), -1)
    lines = np.packbits(spread.astype(np.uint8), axis=1)
    if bits > 8:  # the lowest byte first
        lines = lines.reshape(len(values), -1, bits // 8)[..., ::-1].reshape(len(values), -1)
    lines = np.pad(lines, ((0, 0), (0, -lines.shape[1] % 4)))
    pixels = (lines if top_down else lines[::-1]).tobytes()
    height, width = values.shape
    if header == 12:
        fields = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        how = compression if compression is not None else 3 if masks else 0
        fields = struct.pack(
            "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, how, 0, 0, 0, colours, 0
        )
    told = struct.pack(f"<{len(masks)}I", *masks)
    fields = fields + told if header == 40 else (fields + told).ljust(header, b"\0")
    offset = 14 + len(fields) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + fields + palette + pixels


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("header", [12, *HEADERS])
def test_palettes(header: int, bits: int, top_down: bool) -> None:
    random = np.random.default_rng(bits)
    for colours, kind in product((2**bits, 2**bits - 1, 2), ("colour", "gray", "black and white")):
        if header == 12 and (top_down or colours != 2**bits):
            continue
        values = random.integers(0, colours, (HEIGHT, WIDTH)).astype(np.uint64)
        palette = random.integers(0, 256, (colours, 3), np.uint8)
        if kind == "gray":
            palette = np.repeat(np.linspace(0, 255, colours).astype(np.uint8)[:, None], 3, axis=1)
        elif kind == "black and white":
            palette = np.array([[255 * (i % 2)] * 3 for i in range(colours)], np.uint8)
        entries = palette if header == 12 else np.pad(palette, ((0, 0), (0, 1)))
        data = bmp(header, bits, values, entries.tobytes(), top_down=top_down, colours=colours)
        assert judge(data, palette[values][..., ::-1] / 255) == "right"


MASKS = {
    16: (
        (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F), (0xF00, 0xF0, 0xF), (0x1F, 0x3E0, 0x7C00),
        (0x7C00, 0x3E0, 0x1F, 0x8000),
    ),
    24: ((0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000)),
    32: (
        (0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00),
        (0xFF00, 0xFF0000, 0xFF000000), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF), (0xFF00, 0xFF0000, 0xFF000000, 0xFF), (0x3FF00000, 0xFFC00, 0x3FF),
    ),
}  # fmt: skip


def test_masks_are_right_or_refused() -> None:
    served = 0
    for header, bits, top_down in product(HEADERS, (16, 24, 32), (False, True)):
        random = np.random.default_rng(bits)
        for masks in ((), *MASKS[bits]):
            if (header == 64 and masks) or (len(masks) == 4 and header < 56):
                continue
            values = random.integers(0, 2**bits, (HEIGHT, WIDTH), np.uint64)
            told = masks or ((0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF))
            channels = [(values & np.uint64(mask)) / mask for mask in told]
            picture = np.stack(channels[:3], axis=-1)
            data = bmp(header, bits, values, masks=masks, top_down=top_down)
            verdict = judge(data, on_white(picture, channels[3]) if len(channels) == 4 else picture)
            assert verdict == "right" or "bits of a BMP" in verdict, (header, bits, masks, verdict)
            served += verdict == "right"
            assert masks or verdict == "right"
    assert served > 60


@pytest.mark.parametrize("header", [56, 108, 124])
@pytest.mark.parametrize("red", [0xFF, 0xFF0000])
def test_an_alpha_that_nobody_filled_in_is_none(header: int, red: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**24, (HEIGHT, WIDTH), np.uint64)
    masks = (red, 0xFF00, 0xFF00FF ^ red, 0xFF000000)
    picture = np.stack([(values & np.uint64(mask)) / mask for mask in masks[:3]], axis=-1)
    data = bmp(header, 32, values, masks=masks)
    assert judge(data, picture) == "right"
    assert not decode(data, LIMIT).info.alpha_flattened


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (bmp(40, 8, np.zeros((4, 4), np.uint64), bytes(1024), compression=1), "runs of 8 bits"),
        (bmp(40, 4, np.zeros((4, 4), np.uint64), bytes(64), compression=2), "runs of 4 bits"),
        (bmp(40, 24, np.zeros((4, 4), np.uint64), compression=4), "JPEG"),
        (bmp(40, 24, np.zeros((4, 4), np.uint64), compression=5), "PNG"),
        (bmp(64, 1, np.zeros((4, 4), np.uint64), bytes(8), compression=3), "number 3"),
        (bmp(40, 2, np.zeros((4, 4), np.uint64), bytes(16)), "2 bits a pixel"),
        (bmp(40, 4, np.zeros((4, 4), np.uint64), bytes(i // 4 * (i % 4 < 3) for i in range(64))), "darkest grays"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_says_what_it_is(data: bytes, told: str) -> None:
    with pytest.raises(UnsupportedImage, match=told):
        decode(data, LIMIT)


def test_what_lacks_pixels_says_how_many() -> None:
    values = np.zeros((4, 5), np.uint64)
    data = bmp(40, 24, values)
    assert judge(data[:-1], np.zeros((4, 5, 3))) == "right"  # the padding of the last row
    with pytest.raises(InvalidImage, match="of 63 bytes of pixels, 3 are missing"):
        decode(data[:-4], LIMIT)
    with pytest.raises(InvalidImage, match="palette of 2"):
        decode(bmp(40, 8, values + np.uint64(7), bytes(8), colours=2), LIMIT)
