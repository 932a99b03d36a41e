"""WebP: lossless files compared with their source, lossy ones with libwebp's own decoder by way of imagecodecs."""

import struct

import imagecodecs
import numpy as np
import pytest

from service.errors import ImageTooLarge, InvalidImage
from service.images.decode import decode
from tests.service.images.expected import LIMIT, judge, on_white

SAMPLES = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
COLOUR, ALPHA = SAMPLES[..., :3] / 255, SAMPLES[..., 3] / 255


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WEBP" + b"".join(chunks)


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def canvas(width: int, height: int, flags: int = 0) -> bytes:
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + three(width - 1) + three(height - 1))


def image_chunks(data: bytes) -> bytes:
    """Of a still image, those that hold its pixels."""
    return data[12:] if data[12:16] != b"VP8X" else data[30:]


def animation_frame(x: int, y: int, width: int, height: int, chunks: bytes, flags: int = 0) -> bytes:
    place = three(x // 2) + three(y // 2) + three(width - 1) + three(height - 1) + three(100) + bytes([flags])
    return chunk(b"ANMF", place + chunks)


LOSSLESS = imagecodecs.webp_encode(SAMPLES, lossless=True)
OPAQUE = imagecodecs.webp_encode(SAMPLES[..., :3].copy(), lossless=True)


def test_lossless() -> None:
    seen = on_white(COLOUR, ALPHA)
    assert np.array_equal(imagecodecs.webp_decode(OPAQUE), SAMPLES[..., :3])
    assert judge(OPAQUE, COLOUR) == "right"
    decoded = imagecodecs.webp_decode(LOSSLESS) / 255
    assert judge(LOSSLESS, on_white(decoded[..., :3], decoded[..., 3])) == "right"
    assert np.abs(on_white(decoded[..., :3], decoded[..., 3]) - seen).max() < 1 / 255


@pytest.mark.parametrize("channels", [3, 4])
def test_lossy(channels: int) -> None:
    smooth = np.add.outer(np.arange(40) * 3, np.arange(60) * 2)[..., None] * np.ones(channels, np.uint16) % 256
    data = imagecodecs.webp_encode(smooth.astype(np.uint8), level=80)
    decoded = imagecodecs.webp_decode(data) / 255
    colour = decoded[..., :3]
    assert judge(data, on_white(colour, decoded[..., 3]) if decoded.shape[2] == 4 else colour) == "right"


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, 6)])
def test_the_first_frame_of_an_animation(x: int, y: int, flags: int) -> None:
    frame = animation_frame(x, y, 24, 20, image_chunks(LOSSLESS), flags)
    other = animation_frame(0, 0, 24, 20, image_chunks(OPAQUE))
    data = riff(canvas(30, 28, 0x12), chunk(b"ANIM", b"\x20\x40\x60\xff\0\0"), frame, other)
    picture = np.ones((28, 30, 3))
    picture[y : y + 20, x : x + 24] = on_white(COLOUR, ALPHA)
    assert judge(data, picture) == "right"
    end = data.index(b"ANMF", data.index(b"ANMF") + 4) - 1
    for cut in range(end, len(data), 37):  # behind the first frame
        assert judge(data[:cut], picture) == "right"
    with pytest.raises(InvalidImage, match=r"bytes of pixels, \d+ are missing"):
        decode(data[: end - 60], LIMIT)


def test_metadata_of_any_kind_and_cut_anywhere_changes_nothing() -> None:
    for name in (b"ICCP", b"EXIF", b"XMP ", b"abcd"):
        for body in (b"", b"\xff" * 5, b"II*\0" + b"\xff" * 400):
            metadata = chunk(name, body)
            pixels = image_chunks(OPAQUE)
            before, behind = riff(canvas(24, 20, 0x2C), metadata, pixels), riff(canvas(24, 20, 0x2C), pixels, metadata)
            assert judge(before, COLOUR) == judge(behind, COLOUR) == "right"
            for cut in range(1, len(metadata) + 1, 29):
                assert judge(behind[:-cut], COLOUR) == "right"


def test_lengths_of_the_file_that_are_wrong() -> None:
    for length in (0, 10, 2**32 - 1):
        assert judge(OPAQUE[:4] + struct.pack("<I", length) + OPAQUE[8:], COLOUR) == "right"


def test_what_is_refused() -> None:
    with pytest.raises(InvalidImage, match="WEBP"):
        decode(riff(canvas(24, 21), image_chunks(OPAQUE)), LIMIT)
    with pytest.raises(InvalidImage, match="no pixels"):
        decode(riff(canvas(24, 20)), LIMIT)
    with pytest.raises(ImageTooLarge):
        decode(riff(canvas(2**24, 1), image_chunks(OPAQUE)), 2**25)
    with pytest.raises(ImageTooLarge, match="pieces"):
        decode(riff(*[chunk(b"abcd", b"")] * 100_000), LIMIT)
