import base64
import gzip
import io
import zlib

import pytest
from PIL import Image

from service.api.mistaken import refuse_mistakes
from service.errors import UnsupportedImage


def image(format_: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((40, 40), 60).convert("RGB").save(file, format_)
    return file.getvalue()


PNG, JPEG = image("PNG"), image("JPEG")
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"]
JSON = "application/json"


@pytest.mark.parametrize("format_", FORMATS)
def test_images_are_none(format_: str) -> None:
    refuse_mistakes(image(format_))


@pytest.mark.parametrize("data", [b"", b"hello", b"{}x"[2:], b"AAAA", b"Qk", b"\0" * 20, b"<3", b"[ok]", b"--", b"{x}"])
def test_what_is_not_known_is_left_to_those_who_know_formats(data: bytes) -> None:
    refuse_mistakes(data)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_base64_of_any_format(format_: str, encode) -> None:  # type: ignore[no-untyped-def]
    encoded = encode(image(format_))
    for text in (encoded, b"\n" + encoded, b'"' + encoded.strip() + b'"', b"\xef\xbb\xbf" + encoded):
        with pytest.raises(UnsupportedImage, match=f"is base64: decode it, or send it as {JSON}"):
            refuse_mistakes(text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"image": "abc"}', f"JSON: .*{JSON}"),
        (b'\xef\xbb\xbf \r\n{\n  "error": {"code": 404}}', "JSON"),
        (b'[{"a": 1}]', "JSON"),
        (b"{}", "JSON"),
        (b"[[0, 1], [2, 3]]", "JSON"),
        (gzip.compress(PNG), "gzip data: say so with Content-Encoding: gzip"),
        (zlib.compress(PNG), "deflate data: say so with Content-Encoding: deflate"),
        (b"\x28\xb5\x2f\xfd" + PNG, "Zstandard"),
        (b"PK\x03\x04" + PNG, "ZIP"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!DOCTYPE html><title>502 Bad Gateway</title>", "an HTML page"),
        (b"\n\n  <html lang=en>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"data:image/png;base64," + base64.b64encode(PNG), "a data: URL"),
        (b"https://example.org/cat.jpg", "an address"),
        (b"[object Blob]", "JavaScript"),
        (str(PNG).encode(), "bytes as Python prints them"),
        (str(JPEG).encode(), "bytes as Python prints them"),
        (b"image=" + base64.b64encode(PNG), "a URL-encoded form"),
        (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n', "a multipart form"),
        (PNG.decode("utf-8", "replace").encode(), "taken for a text"),
        (JPEG.decode("utf-8", "replace").encode(), "taken for a text"),
        (PNG.decode("latin-1").encode(), "taken for a text"),
        (JPEG.decode("latin-1").encode(), "taken for a text"),
        (PNG.decode("cp1252", "replace").encode(), "taken for a text"),
        (PNG.decode("latin-1").encode("ascii", "replace"), "taken for a text"),
        (JPEG.decode("latin-1").encode("ascii", "replace"), "taken for a text"),
        (PNG.replace(b"\r\n", b"\n"), "line ends were changed"),
        (PNG.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""), "curl: --data-binary"),
    ],
)
def test_what_came_is_said(data: bytes, says: str) -> None:
    with pytest.raises(UnsupportedImage, match=says) as refused:
        refuse_mistakes(data)
    assert refused.value.reason == "not_an_image"
