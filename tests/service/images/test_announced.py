"""What the front reads of an image's header, beside what Pillow reads."""

import io
import random
import struct
from collections.abc import Iterator

import pytest
from PIL import Image

from service.images.announced import Announced, announced
from service.images.formats import FORMATS
from tests.doubles import encode
from tests.hostile_images import corpus

SIZES = [(1, 1), (2, 3), (17, 16), (255, 257), (640, 360), (1601, 5)]


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size)


def exif(size: int) -> bytes:
    """An EXIF block of about `size` bytes."""
    block = Image.Exif()
    block[0x010E] = "x" * size  # ImageDescription
    return block.tobytes()


def encodings(size: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    """Images of a size in every way in which one may be announced."""
    rgb = picture(size)
    yield "PNG", encode(rgb, "PNG")
    yield "PNG of a palette", encode(picture(size, "P"), "PNG")
    yield "PNG of 16 bits", encode(picture(size, "I;16"), "PNG")
    yield "JPEG", encode(rgb, "JPEG")
    yield "JPEG, gray", encode(picture(size, "L"), "JPEG")
    yield "JPEG, CMYK", encode(picture(size, "CMYK"), "JPEG")
    yield "JPEG, progressive", encode(rgb, "JPEG", progressive=True)
    yield "JPEG, progressive, behind EXIF", encode(rgb, "JPEG", progressive=True, exif=exif(60_000))
    yield "JPEG behind a colour profile", encode(rgb, "JPEG", icc_profile=bytes(2_000_000))
    yield "JPEG behind a comment", encode(rgb, "JPEG", comment=b"x" * 1000)
    yield "JPEG, restarted", encode(rgb, "JPEG", restart_marker_rows=1)
    yield "JPEG behind filling bytes", encode(rgb, "JPEG").replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1)
    yield "GIF", encode(picture(size, "P"), "GIF")
    yield "GIF of several", encode(rgb, "GIF", save_all=True, append_images=[Image.new("RGB", size, "white")])
    yield "BMP", encode(rgb, "BMP")
    yield "BMP, top down", top_down(encode(rgb, "BMP"))
    yield "BMP of OS/2", of_os2(size)
    yield "WEBP", encode(rgb, "WEBP")
    yield "WEBP, lossless", encode(rgb, "WEBP", lossless=True)
    yield "WEBP, extended", encode(rgb, "WEBP", exif=exif(100))
    yield "WEBP, extended, lossless", encode(picture(size, "RGBA"), "WEBP", lossless=True, exif=exif(100))
    yield "WEBP, alpha", encode(Image.new("RGBA", size, (1, 2, 3, 4)), "WEBP")
    if "AVIF" in FORMATS:
        yield "AVIF", encode(rgb, "AVIF")
        yield "AVIF behind EXIF", encode(rgb, "AVIF", exif=exif(60_000))
    yield "TIFF", encode(rgb, "TIFF")
    yield "TIFF, big-endian, of 16 bits", encode(Image.frombytes("I;16B", size, bytes(2 * size[0] * size[1])), "TIFF")
    yield "TIFF, compressed", encode(rgb, "TIFF", compression="tiff_lzw")
    yield "WEBP, animated", encode(rgb, "WEBP", save_all=True, append_images=[Image.new("RGB", size, "white")])


def top_down(bmp: bytes) -> bytes:
    """Its rows from the top, which a negative height says."""
    (height,) = struct.unpack_from("<i", bmp, 22)
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:]


def of_os2(size: tuple[int, int]) -> bytes:
    """The header of 12 bytes, whose width and height have 16 bits each."""
    width, height = size
    pixels = bytes((3 * width + 3) // 4 * 4 * height)
    return struct.pack("<2sIHHIIHHHH", b"BM", 26 + len(pixels), 0, 0, 26, 12, width, height, 1, 24) + pixels


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_format_and_pixels_are_those_that_pillow_finds(size: tuple[int, int]) -> None:
    for name, data in encodings(size):
        with Image.open(io.BytesIO(data)) as image:
            expected = image.format, image.width * image.height
        assert announced(data) == expected, name
        assert announced(memoryview(data)) == expected, name


@pytest.mark.parametrize("format_", FORMATS)
def test_every_accepted_format_has_its_name(format_: str) -> None:
    assert announced(encode(picture((32, 32)), format_)).format == format_


@pytest.mark.parametrize("data", [b"", b"text", bytes(100), b"<svg/>", b"%PDF-1.4", b"\xff" * 100])
def test_what_is_no_image_is_something_else(data: bytes) -> None:
    assert announced(data) == Announced("other", 0)


def test_a_beginning_of_a_file_says_what_it_can_and_never_fails() -> None:
    for name, data in encodings((17, 16)):
        whole = announced(data)
        for end in range(min(len(data), 1000)):
            part = announced(data[:end])
            assert part.pixels >= 0, name
            assert part.format in (whole.format, "other"), name


def test_nonsense_behind_a_signature_never_fails() -> None:
    chance = random.Random(0)
    signatures = [b"", *(data[:length] for _, data in encodings((2, 3)) for length in (4, 12, 16, 20, 30))]
    for _ in range(200):
        for signature in signatures:
            assert announced(signature + chance.randbytes(chance.randrange(40))).pixels >= 0


@pytest.mark.parametrize("hostile", corpus(), ids=lambda hostile: hostile.name)
def test_images_made_to_hurt_do_not(hostile) -> None:  # type: ignore[no-untyped-def]
    assert announced(hostile.data).pixels >= 0


def test_of_a_tiff_of_thumbnail_and_image_it_is_the_image() -> None:
    pages = encode(picture((10, 10)), "TIFF", save_all=True, append_images=[picture((40, 30))], tiffinfo={254: 1})
    thumbnail, image = (struct.pack("<HHII", 254, 4, 1, reduced) for reduced in (1, 0))
    assert pages.count(thumbnail) == 2
    assert announced(pages) == Announced("TIFF", 0)
    second = pages.rfind(thumbnail)
    assert announced(pages[:second] + image + pages[second + len(image) :]) == Announced("TIFF", 1200)


def test_an_avif_of_more_properties_than_are_looked_at_does_not_tell_its_size() -> None:
    box = struct.pack(">I4s", 8, b"free")
    properties = struct.pack(">I4s4xII", 20, b"ispe", 30, 40) + 63 * box
    data = struct.pack(">I4s4s4x", 16, b"ftyp", b"avif")
    inner = struct.pack(">I4s", 8 + len(properties), b"ipco") + properties
    inner = struct.pack(">I4s", 8 + len(inner), b"iprp") + inner
    assert announced(data + struct.pack(">I4s4x", 12 + len(inner), b"meta") + inner).pixels == 0
    few = properties[:-8]
    inner = struct.pack(">I4s", 8 + len(few), b"ipco") + few
    inner = struct.pack(">I4s", 8 + len(inner), b"iprp") + inner
    assert announced(data + struct.pack(">I4s4x", 12 + len(inner), b"meta") + inner).pixels == 1200


def test_a_jpeg_of_nothing_but_segments_is_given_up() -> None:
    comments = b"\xff\xfe\0\x02" * 1_000_000
    assert announced(b"\xff\xd8" + comments) == Announced("JPEG", 0)
    endless = b"\xff\xfe\0\0" * 1_000_000  # a length below its own two bytes
    assert announced(b"\xff\xd8" + endless) == Announced("JPEG", 0)
