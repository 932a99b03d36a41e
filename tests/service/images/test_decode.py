import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import ImageTooLarge, InvalidImage, MalformedRequest, UnsupportedImage
from service.images.decode import decode
from service.images.formats import FORMATS
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


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", *(["AVIF"] if "AVIF" in FORMATS else [])])
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
    with pytest.raises(ImageTooLarge, match="50000x50000 pixels; at most 50000000"):
        decode(_png(50_000, 50_000), 50_000_000)


def test_the_pixel_limit_is_exact() -> None:
    data = encode(Image.new("RGB", (10, 10)), "PNG")
    decode(data, 100)
    with pytest.raises(ImageTooLarge):
        decode(data, 99)


def test_a_flipped_bit_among_a_pngs_pixels_is_damage(photo: Image.Image) -> None:
    data = bytearray(encode(photo, "PNG"))
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(InvalidImage):
        decode(bytes(data), LIMIT)


def png(depth: int, colour_type: int, transparent: bytes, row: bytes, width: int) -> bytes:
    """A PNG of one row, as Pillow would not write it."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("data", "reds"),
    [
        (png(1, 0, b"\0\0", bytes([0b01000000]), 2), [255, 255]),
        (png(2, 0, b"\0\1", bytes([0b00011011]), 4), [0, 255, 170, 255]),
        (png(4, 0, b"\0\1", bytes([0x01, 0x23]), 4), [0, 255, 34, 51]),
        (png(16, 0, b"\0\1", struct.pack(">3H", 0, 1, 514), 3), [0, 255, 2]),
        (png(16, 2, struct.pack(">3H", 2570, 2570, 2570), struct.pack(">6H", *[2570] * 3, *[514] * 3), 2), [255, 2]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "16 bits", "16 bits a colour"],
)
def test_a_transparent_colour_is_told_in_the_pngs_own_samples(data: bytes, reds: list[int]) -> None:
    rgb, info, _ = decode(data, LIMIT)
    assert np.asarray(rgb)[0, :, 0].tolist() == reds
    assert info.alpha_flattened


def test_16_bit_tiff_in_which_white_is_zero() -> None:
    ramp = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert rgb_of(encode(ramp, "TIFF", tiffinfo={262: 0}))[0, :, 0].tolist() == [255, 254, 0]
    assert rgb_of(encode(ramp, "TIFF"))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("samples", [np.float32, np.int32])
def test_samples_without_a_known_white_are_refused(samples: type[np.generic]) -> None:
    with pytest.raises(UnsupportedImage) as refused:
        decode(encode(Image.fromarray(np.zeros((2, 2), samples)), "TIFF"), LIMIT)
    assert refused.value.reason == "samples"


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
def test_an_orientation_in_xmp_alone_is_ignored(photo: Image.Image, format_: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    rgb, info, _ = decode(encode(photo, format_, xmp=xmp), LIMIT)
    assert np.asarray(rgb)[15, 5, 0] > 180  # red is still on the left
    assert not info.orientation_applied


def test_a_text_that_begins_with_bm_is_no_bmp() -> None:
    with pytest.raises(UnsupportedImage):
        decode(b"BM is what this text begins with, and it goes on for a while", LIMIT)


def test_what_libtiff_says_of_damage_stays_out_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    data = bytearray(encode(Image.fromarray(noise), "TIFF", compression="tiff_lzw"))
    data[200:400] = bytes(byte ^ 0x55 for byte in data[200:400])
    with pytest.raises(InvalidImage):
        decode(bytes(data), LIMIT)
    assert capfd.readouterr().err == ""
