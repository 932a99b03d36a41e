"""What was sent as an image and is none: texts and compressed data that clients send by mistake, by their first bytes.

Formats of images that are not accepted are told by `service.images`.
"""

import re

from service.errors import UnsupportedImage

# What is certainly meant as an image.
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM", b"II", b"MM", b"\0\0\0")
_FIRST = 1024  # bytes that are looked at
_AROUND = b" \t\r\n\"'"
_AS_JSON = 'decode it, or send it as application/json: {"image": "<base64>"}'
_IN_BINARY = "read and send the file in binary"

# Leading bytes, in lower case and without blanks and quotation marks before them, what they are, and what to do.
_MISTAKES: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"\x1f\x8b",), "gzip data", "say so with Content-Encoding: gzip"),
    ((b"x\x9c", b"x\x01", b"x\xda"), "deflate data", "say so with Content-Encoding: deflate"),
    ((b"\x28\xb5\x2f\xfd",), "Zstandard data", "Content-Encoding can be gzip or deflate"),
    ((b"pk\x03\x04",), "a ZIP archive", "send the image that is in it"),
    ((b"%pdf-",), "a PDF document", "send an image of its page"),
    ((b"<!doctype html", b"<html", b"<head", b"<body"), "an HTML page, such as an error's", "look where it came from"),
    ((b"<svg",), "an SVG drawing", "render it to PNG"),
    ((b"<?xml", b"<!--"), "an XML document", "send an image"),
    ((b"data:",), "a data: URL", _AS_JSON),
    ((b"http://", b"https://", b"file://"), "an address", "send the file itself: nothing is fetched from elsewhere"),
    ((b"[object ",), "the name of a JavaScript object", "send its bytes"),
    ((b"b'\\x", b'b"\\x', b"b'gif8", b"b'\\xff"), "bytes as Python prints them", _IN_BINARY),
    ((b"image=", b"image%"), "a URL-encoded form", "send the file as the body, or as multipart/form-data"),
    (
        (b"\xef\xbf\xbd", b"\xc3\xbf\xc3\x98", b"\xc2\x89png", b"\xe2\x80\xb0png", b"?png\r\n", b"????\x00\x10jfif"),
        "an image that was taken for a text",
        _IN_BINARY,
    ),
    ((b"\x89png",), "a PNG whose line ends were changed on the way", f"{_IN_BINARY} (curl: --data-binary)"),
)
_JSON = re.compile(rb'[{\[]\s*(?:["\[{}\]\d-]|true|false|null)')
_MULTIPART = re.compile(rb"--[^\r\n]{1,256}\r?\ncontent-", re.IGNORECASE)
# JPEG, PNG, GIF, WebP, TIFF, BMP, and AVIF, HEIC or JPEG XL in base64.
_BASE64_IMAGES = (b"/9j/", b"_9j_", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"SUkqA", b"TU0AK", b"Qk", b"AAAA")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]{16,}")


def refuse_mistakes(data: bytes, which: str = "what was sent as an image") -> None:
    """Raise UnsupportedImage, which says what `data` is, if that is known and no image; `which` names it."""
    if data.startswith(_IMAGES):
        return
    first = data[:_FIRST].removeprefix(b"\xef\xbb\xbf").strip(_AROUND)
    lower = first.lower()
    for beginnings, what, instead in _MISTAKES:
        if lower.startswith(beginnings):
            raise _mistake(which, what, instead)
    if _JSON.match(first):
        raise _mistake(
            which, "JSON", "with an image in it, it needs Content-Type: application/json; else it may be an error"
        )
    if _MULTIPART.match(first):
        raise _mistake(which, "a multipart form", "say so with its Content-Type, boundary and all")
    if first.startswith(_BASE64_IMAGES) and _BASE64.fullmatch(first):
        raise _mistake(which, "base64", _AS_JSON)


def _mistake(which: str, what: str, instead: str) -> UnsupportedImage:
    return UnsupportedImage(f"{which} is {what}: {instead}", reason="not_an_image")
