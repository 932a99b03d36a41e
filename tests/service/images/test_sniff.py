import base64
import gzip
import io
import json

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from service.errors import MalformedRequest, UnsupportedImage
from service.images.decode import decode
from service.images.formats import FORMATS
from tests.doubles import encode
from tests.service.images.expected import LIMIT

SAMPLES = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
PNG, JPEG, GIF, WEBP = (encode(Image.fromarray(SAMPLES), format_) for format_ in ("PNG", "JPEG", "GIF", "WEBP"))


def pillows(format_: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SAMPLES).save(file, format_)
    return file.getvalue()


def brand(name: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + name + bytes(4) + name + b"isom" + bytes(40)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (imagecodecs.jpegxl_encode(SAMPLES), "JPEG XL"),
        (imagecodecs.jpegxl_encode(SAMPLES, usecontainer=True), "JPEG XL"),
        (imagecodecs.jpeg2k_encode(SAMPLES), "JPEG 2000"),
        (imagecodecs.jpeg2k_encode(SAMPLES, codecformat="j2k"), "JPEG 2000"),
        (imagecodecs.jpegxr_encode(SAMPLES), "JPEG XR"),
        (imagecodecs.qoi_encode(SAMPLES), "QOI"),
        (pillows("ICO"), "Windows icon"),
        (pillows("ICNS"), "Apple icon"),
        (pillows("PDF"), "PDF"),
        (pillows("EPS"), "PostScript"),
        (pillows("DDS"), "DDS"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"II+\0\x08\0\0\0" + bytes(8), "BigTIFF"),
        (b"IIRO\x08\0\0\0" + bytes(40), "camera raw"),
        (b"IIU\0\x08\0\0\0" + bytes(40), "camera raw"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "camera raw"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw"),
        (brand(b"crx "), "camera raw"),
        (brand(b"qt  "), "QuickTime"),
        (brand(b"mp42"), "MP4"),
        (brand(b"mif1"), "HEIF image of another codec"),
        (brand(b"hevc"), "HEIF image sequence"),
        (b"RIFF\0\0\0\0WAVEfmt ", "WAVE"),
        (b"\x1aE\xdf\xa3" + bytes(20), "WebM"),
        (b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg></svg>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"\n <!DOCTYPE html><html><body>404", "HTML page"),
        (b"\xef\xbb\xbf<html>", "HTML page"),
        (json.dumps({"error": "not found"}).encode(), "JSON"),
        (json.dumps({"error": "not found"}, indent=2).encode(), "JSON"),
        (b"[[0, 1], [2, 3]]", "JSON"),
        (gzip.compress(PNG), "gzip data without the header"),
        (b"PK\3\4" + bytes(60), "ZIP"),
        (b"--boundary\r\nContent-Disposition: form-data", "multipart form"),
        (b"https://example.org/cat.jpg", "URL"),
        (b"data:image/png;base64,iVBORw0KGgo=", "data URL"),
        (bytes(100), "zeros"),
        (b" \r\n ", "white space"),
        (b"Internal\n Server Error", "a text that begins 'Internal Server Error'"),
        (b"404: Not Found" * 200, "a text that begins '404: Not Found404"),
        (("x" + "\u00e9" * 600).encode(), "a text that begins 'x\u00e9"),  # cut off within a character
        (b"version https://git-lfs.github.com/spec/v1\noid", "a text that begins 'version https://git-lfs"),
        (b"C:\\photos\\cat.jpg", "a text that begins 'C:"),
        ("<html>".encode("utf-16"), "a text that begins '<html>'"),
        (b"\x93NUMPY\1\0" + bytes(60), "NumPy array"),
        (b"\x80\x04\x95" + bytes(60), "Python pickle"),
        (b"P6\n2 2\n255\n" + bytes(12), "Netpbm"),
        (bytes([0, 0, 2]) + bytes(9) + b"\2\0\2\0\x18\0" + bytes(12), "TARGA"),
        (b"\0\0\2\0\1\0\x20\x20" + bytes(60), "cursor"),
        (bytes(128) + b"DICM" + bytes(60), "DICOM"),
        (PNG.replace(b"\r\n", b"\n"), "transferred as text"),
        (str(PNG).encode(), "printed form of bytes"),
    ],
)
def test_what_is_not_accepted_is_told_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedImage, match=f"(?i)not an accepted image format but .*{name}|{name} .* not accepted"):
        decode(data, LIMIT)


@pytest.mark.parametrize(
    "data", [PNG, JPEG, GIF, WEBP, *(encode(Image.fromarray(SAMPLES), f) for f in ("TIFF", "BMP", "AVIF"))]
)
def test_an_image_that_went_through_text(data: bytes) -> None:
    for text, name in (
        (base64.b64encode(data), "base64"),
        (b'"' + base64.b64encode(data) + b'"', "base64"),
        (data.hex().encode(), "hexadecimal"),
    ):
        if name == "base64" or data[:2] in (b"\x89P", b"\xff\xd8", b"GI", b"RI"):
            with pytest.raises(UnsupportedImage, match=name):
                decode(text, LIMIT)
    for mangled in (
        data.decode("utf-8", "replace").encode(),
        data.decode("latin-1").encode(),
        data.decode("cp1252", "replace").encode(),
    ):
        if not data[:8].isascii():
            with pytest.raises(UnsupportedImage, match="read as text"):
                decode(mangled, LIMIT)


@pytest.mark.parametrize("piece", [b"<!---->", b"<!-->", b"<!doctype svg>", b" ", b"<?xml?>", b"<", b"{ ", b"data:a/a"])
@pytest.mark.parametrize("start", [b"\x0b<?xml?>", b"\x0b", b"\x0c{", b"\x0bdata:"])
def test_no_text_takes_long_to_name(start: bytes, piece: bytes) -> None:
    with pytest.raises(UnsupportedImage):  # a pattern that tries every way to divide the text would never end
        decode(start + piece * 1000, LIMIT)


def test_a_name_says_what_is_accepted_instead() -> None:
    with pytest.raises(UnsupportedImage) as refused:
        decode(b"%PDF-1.7", LIMIT)
    assert refused.value.message == f"not an accepted image format but PDF; accepted: {', '.join(FORMATS)}"
    with pytest.raises(UnsupportedImage, match=r"^not an accepted image format; accepted: JPEG"):
        decode(b"\x01\x02hello", LIMIT)
    with pytest.raises(MalformedRequest, match="empty"):
        decode(b"", LIMIT)


def test_what_begins_like_an_image_and_is_none_never_breaks_it() -> None:
    for data in (PNG, JPEG, GIF, WEBP, brand(b"avif"), brand(b"heic"), b"BM" + bytes(80)):
        for length in range(1, 40):
            with pytest.raises((UnsupportedImage, Exception)) as refused:
                decode(data[:length], LIMIT)
            assert getattr(refused.value, "status", None) in (415, 422)
