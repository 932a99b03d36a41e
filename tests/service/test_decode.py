import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.decode import decode
from service.errors import ImageTooLarge, InvalidImage, MalformedRequest, UnsupportedImage
from service.image_header import FORMATS
from tests.doubles import encode

LIMIT = 10_000_000


def rgb_of(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, LIMIT)[0])


@pytest.fixture
def photo() -> Image.Image:
    """40x30: red left half, blue right half."""
    image = Image.new("RGB", (40, 30), (200, 0, 0))
    image.paste((0, 0, 200), (20, 0, 40, 30))
    return image


@pytest.mark.parametrize("format_", FORMATS)
def test_every_accepted_format_by_content(photo: Image.Image, format_: str) -> None:
    rgb, info, _ = decode(encode(photo, format_), LIMIT)
    assert (info.width, info.height, info.format, info.orientation_applied) == (40, 30, format_, False)
    assert rgb.mode == "RGB"
    left, right = np.asarray(rgb)[15, 5], np.asarray(rgb)[15, 35]
    assert left[0] > 180 > 30 > left[2]
    assert right[2] > 180 > 30 > right[0]


def test_one_pixel() -> None:
    assert rgb_of(encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


def test_grayscale_becomes_equal_channels() -> None:
    assert rgb_of(encode(Image.new("L", (2, 2), 77), "PNG"))[0, 0].tolist() == [77, 77, 77]


def test_black_and_white() -> None:
    assert rgb_of(encode(Image.new("1", (2, 2), 1), "PNG"))[0, 0].tolist() == [255, 255, 255]


def test_palette() -> None:
    image = Image.new("RGB", (4, 4), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert rgb_of(encode(image, "PNG"))[0, 0].tolist() == [10, 200, 30]


def test_palette_with_a_transparent_entry_is_flattened_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert rgb_of(encode(image, "PNG", transparency=0))[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_alpha_is_flattened_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    assert rgb_of(encode(image, "PNG"))[0].tolist() == [[255, 255, 255], [0, 0, 0]]
    half = rgb_of(encode(Image.new("LA", (1, 1), (0, 128)), "PNG"))[0, 0]
    assert half == pytest.approx([127, 127, 127], abs=1)


def test_cmyk() -> None:
    cyan = rgb_of(encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))[4, 4]
    assert cyan[0] < 30
    assert min(cyan[1:]) > 200


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(1, 256)
    assert rgb_of(encode(Image.fromarray(ramp), "PNG"))[0, :, 0].tolist() == list(range(256))
    assert rgb_of(encode(Image.fromarray(ramp), "TIFF"))[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if "AVIF" in FORMATS else [])])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photo: Image.Image, format_: str, orientation: int) -> None:
    """Stored rotated and tagged, every orientation comes out as the upright picture."""
    stored_by = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo.transpose(stored_by[orientation]) if orientation in stored_by else photo
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb, info, _ = decode(encode(stored, format_, exif=exif), LIMIT)
    assert (info.width, info.height, info.orientation_applied) == (40, 30, orientation != 1)
    assert np.asarray(rgb)[15, 5, 0] > 150 > 100 > np.asarray(rgb)[15, 35, 0]


def test_damaged_exif_does_not_hide_the_pixels(photo: Image.Image) -> None:
    data = encode(photo, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert decode(data, LIMIT)[1].orientation_applied is False


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(format_: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("white", "black", "red")]
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert rgb_of(data)[0, 0].min() > 250


def test_empty() -> None:
    with pytest.raises(MalformedRequest):
        decode(b"", LIMIT)


@pytest.mark.parametrize(
    "data", [b"hello", b"<svg></svg>", b"%PDF-1.7", b"\x00" * 100, b"RIFF1234WAVE", b"P6 1 1 255 abc"]
)
def test_other_content_is_not_an_accepted_format(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        decode(data, LIMIT)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_truncated(format_: str, kept: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encode(noise, format_)
    with pytest.raises(InvalidImage, match=format_):
        decode(data[: int(len(data) * kept)], LIMIT)


def _png(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_pixel_bomb_is_refused_from_its_header() -> None:
    with pytest.raises(ImageTooLarge, match="too many pixels; at most 50000000"):
        decode(_png(50_000, 50_000), 50_000_000)


def test_the_pixel_limit_is_exact() -> None:
    data = encode(Image.new("RGB", (10, 10)), "PNG")
    decode(data, 100)
    with pytest.raises(ImageTooLarge):
        decode(data, 99)
