"""PNG: every colour type, depth and transparency, written here by the specification; and metadata of any kind."""

import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.images.decode import decode
from service.images.png import check_complete
from tests.service.images.expected import LIMIT, Picture, gray, judge, on_white

HEIGHT, WIDTH = 11, 13
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def rows(samples: np.ndarray, depth: int) -> bytes:
    """[height, width, channels] as scanlines without a filter."""
    if samples.size == 0:
        return b""
    if depth == 16:
        lines = [line.astype(">u2").tobytes() for line in samples]
    else:
        bits = samples[..., None] >> np.arange(depth - 1, -1, -1) & 1
        lines = [np.packbits(line.ravel()).tobytes() for line in bits]
    return b"".join(b"\0" + line for line in lines)


def png(
    samples: np.ndarray,
    colour_type: int,
    depth: int,
    interlaced: bool = False,
    before: bytes = b"",
    there: int | None = None,
) -> bytes:
    """Of the pixels' bytes, `there` are deflated."""
    height, width, _ = samples.shape
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    stream = zlib.compress(b"".join(rows(samples[y::dy, x::dx], depth) for x, y, dx, dy in passes)[:there])
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    third = len(stream) // 3
    pieces = [chunk(b"IDAT", part) for part in (stream[:third], stream[third : 2 * third], stream[2 * third :])]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + b"".join(pieces) + chunk(b"IEND", b"")


def matrix(colour_type: int, depth: int) -> Iterator[tuple[bytes, Picture]]:
    random = np.random.default_rng(depth)
    largest = 2**depth - 1
    for interlaced, transparent in product((False, True), (False, True)):
        samples = random.integers(0, largest + 1, (HEIGHT, WIDTH, CHANNELS[colour_type]))
        level = samples / largest
        before = b""
        match colour_type:
            case 0:
                picture = gray(level[..., 0])
            case 2:
                picture = level
            case 3:
                palette = random.integers(0, 256, (largest + 1, 3), np.uint8)
                alpha = random.integers(0, 256, largest + 1, np.uint8)
                before = chunk(b"PLTE", palette.tobytes()) + (chunk(b"tRNS", alpha.tobytes()) if transparent else b"")
                picture = palette[samples[..., 0]] / 255
                if transparent:
                    picture = on_white(picture, alpha[samples[..., 0]] / 255)
            case 4:
                picture = on_white(gray(level[..., 0]), level[..., 1])
            case _:
                picture = on_white(level[..., :3], level[..., 3])
        if transparent and colour_type in (GRAY, RGB):
            clear = samples[HEIGHT // 2, WIDTH // 2]
            samples[0, 0] = clear ^ 1  # another, which in 16 bits has the same upper byte
            picture[0, 0] = samples[0, 0] / largest
            picture[(samples == clear).all(axis=-1)] = 1
            before = chunk(b"tRNS", clear.astype(">u2").tobytes())
        yield png(samples, colour_type, depth, interlaced, before), picture


@pytest.mark.parametrize(
    ("colour_type", "depth"), [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]
)
def test_every_layout_is_right(colour_type: int, depth: int) -> None:
    assert [judge(data, picture) for data, picture in matrix(colour_type, depth)] == ["right"] * 4


SAMPLES = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3))
PICTURE = SAMPLES / 255
PLAIN = png(SAMPLES, RGB, 8)
START = 8 + 25  # behind the header


def test_damaged_large_and_many_ancillary_chunks_change_nothing() -> None:
    megabytes = zlib.compress(bytes(3_000_000))
    for name in (b"pHYs", b"eXIf", b"gAMA", b"tIME", b"sRGB", b"cHRM", b"bKGD", b"sBIT", b"acTL", b"fcTL", b"prVt"):
        for body in (b"", b"\xff", bytes(9), bytes(70_000)):
            intact = chunk(name, body)
            for piece in (intact, intact[:-1] + bytes([intact[-1] ^ 1])):
                end = PLAIN.index(b"IEND") - 4
                middle = PLAIN.index(b"IDAT", PLAIN.index(b"IDAT") + 4) - 4
                for at in (START, middle, end):
                    assert judge(PLAIN[:at] + piece + PLAIN[at:], PICTURE) == "right"
    for piece in (
        chunk(b"iCCP", b"x\0\0" + megabytes),
        chunk(b"zTXt", b"x\0\0" + megabytes),
        chunk(b"iTXt", b"x\0\1\0\0\0" + megabytes),
        chunk(b"iTXt", b"Raw profile type exif\0\0\0\0\0text") * 1500,
        chunk(b"eXIf", b"II*\0" + bytes([255]) * 200),
        chunk(b"caBX", bytes(5_000_000)),
    ):
        assert judge(PLAIN[:START] + piece + PLAIN[START:], PICTURE) == "right"


def test_an_intact_orientation_counts_wherever_it_stands_and_a_damaged_one_does_not() -> None:
    turned = chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 3, 0, 0))
    for at in (START, PLAIN.index(b"IEND") - 4):
        assert decode(PLAIN[:at] + turned + PLAIN[at:], LIMIT).info.orientation_applied
        assert judge(PLAIN[:at] + turned[:-1] + b"\0" + PLAIN[at:], PICTURE) == "right"


@pytest.mark.parametrize("cut", range(1, 17))
def test_what_lacks_its_end_alone_is_whole(cut: int) -> None:
    assert judge(PLAIN[:-cut], PICTURE) == "right"


def test_what_lacks_pixels_says_so() -> None:
    end = PLAIN.rindex(b"IDAT")
    with pytest.raises(InvalidImage, match=r"the PNG data is truncated or damaged: of \d+ bytes in its last chunk, 3"):
        decode(PLAIN[: -12 - 4 - 3], LIMIT)
    with pytest.raises(InvalidImage, match="PNG"):
        decode(PLAIN[: end - 4], LIMIT)
    with pytest.raises(InvalidImage, match="no pixels"):
        decode(PLAIN[:START], LIMIT)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "depth"), [(0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (4, 16), (6, 8), (6, 16)])
def test_pixels_that_have_an_end_before_the_last_are_not_whole(colour_type: int, depth: int, interlaced: bool) -> None:
    """To the decoder, rows that are not there are black."""
    count = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    for level in (0, 2**depth - 1):
        for size in ((9, 8), (8, 1), (1, 9)):
            samples = np.full((*size, count), level, np.uint16)
            assert decode(png(samples, colour_type, depth, interlaced), LIMIT).info.height == size[0]
            for there in (0, 1, 2, -2, -1):
                with pytest.raises(InvalidImage):
                    decode(png(samples, colour_type, depth, interlaced, there=there), LIMIT)


def test_what_follows_the_end_of_the_pixels_is_not_looked_at() -> None:
    """The inflater would keep all of it, and copy it with every further piece: in time that grows with its square."""
    side, stream = 1500, zlib.compress(bytes(100)) + bytes(6_000_000)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, RGB, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage, match="are missing"):
            check_complete(file, bytes(side * 3))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_more_bytes_than_the_pixels_can_take_are_refused() -> None:
    """Inflating 16 MB of blocks without a byte takes 2 seconds."""
    empty = chunk(b"IDAT", b"\x78\x01" + b"\0\0\0\xff\xff" * 400_000)
    with pytest.raises(ImageTooLarge, match="bytes for 72 bytes of pixels"):
        decode(png(np.zeros((8, 8, 1), np.uint16), 0, 8, before=empty), LIMIT)


def test_damage_to_what_decides_the_pixels_is_damage() -> None:
    for name in (b"IHDR", b"IDAT"):
        data = bytearray(PLAIN)
        data[data.index(name) + 6] ^= 1
        with pytest.raises(InvalidImage, match="checksum"):
            decode(bytes(data), LIMIT)
    pixels = np.zeros((2, 2, 1), int)
    palette = chunk(b"PLTE", bytes(range(6)))
    with pytest.raises(InvalidImage, match="checksum"):
        decode(png(pixels, PALETTE, 8, before=palette[:-1] + b"\0"), LIMIT)
    with pytest.raises(InvalidImage, match="no palette"):
        decode(png(pixels, PALETTE, 8), LIMIT)
    with pytest.raises(InvalidImage, match="palette of 2"):
        decode(png(pixels + 2, PALETTE, 8, before=palette), LIMIT)


def test_what_must_be_understood_and_is_not_is_refused_by_name() -> None:
    for name in (b"CgBI", b"ABCD"):
        with pytest.raises(UnsupportedImage, match=name.decode()):
            decode(PLAIN[:8] + chunk(name, bytes(4)) + PLAIN[8:], LIMIT)


def test_narrow_images_are_refused_by_their_side() -> None:
    for width, height in ((1, 65_536), (65_536, 1), (1, 50_000_000)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
        with pytest.raises(ImageTooLarge, match="a side of at most 65535"):
            decode(PLAIN[:8] + header + PLAIN[START:], 50_000_000)
    assert decode(png(np.zeros((1, 65_535, 1), int), GRAY, 1), LIMIT).info.width == 65_535


def test_a_transparent_colour_has_the_bits_of_the_image_or_is_none() -> None:
    shades = np.arange(4).reshape(2, 2, 1)
    picture = gray(shades[..., 0] / 3)
    picture[0, 1] = 1
    assert judge(png(shades, GRAY, 2, before=chunk(b"tRNS", b"\xff\xfd")), picture) == "right"
    for colour_type, samples in ((RGB, SAMPLES), (RGB_ALPHA, np.dstack([SAMPLES, np.full((HEIGHT, WIDTH), 255)]))):
        for body in (b"", b"\0", bytes(5)):
            assert judge(png(samples, colour_type, 8, before=chunk(b"tRNS", body)), PICTURE) == "right"


def test_the_first_exif_counts() -> None:
    upright, turned = (
        chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, value, 0, 0)) for value in (1, 3)
    )
    assert judge(PLAIN[:START] + upright + turned + PLAIN[START:], PICTURE) == "right"
    assert decode(PLAIN[:START] + turned + upright + PLAIN[START:], LIMIT).info.orientation_applied
