import base64
import binascii
import re
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart

import httpx
import pytest

from service.api.form import images_in_form
from service.errors import MalformedRequest

TYPE = "multipart/form-data; boundary=b"
IMAGE = b"\x89PNG\r\n\x1a\n\0\r\n--\r\n--bc\r\n--b c\r\n-"  # with all but a boundary in it
NAMED = b'Content-Disposition: form-data; name="image"'


def form(*parts: bytes, last: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + last


def part(header: bytes, content: bytes = IMAGE) -> bytes:
    return header + b"\r\n\r\n" + content


def read(body: bytes, content_type: str = TYPE) -> list[bytes]:
    return images_in_form(body, content_type, "image", 64)


@pytest.mark.parametrize(
    "header",
    [
        NAMED,
        NAMED + b'; filename="a.png"',
        NAMED + b"; filename*=UTF-8''%e5%9b%be.png",
        NAMED + b'; filename=""',
        NAMED + b"; filename=a b.png",
        NAMED + b'; filename="a; name=other\\".png"',
        b'Content-Disposition: form-data; filename="name=x"; name="image"',
        b"Content-Disposition:form-data;name=image",
        b'CONTENT-DISPOSITION: Form-Data; NAME="image"',
        b'Content-Type: image/png\r\nContent-Disposition: form-data;\r\n\tname="image"\r\nContent-Length: 3',
        NAMED + b"\r\nContent-Transfer-Encoding: binary",
        NAMED + b"\r\nContent-Transfer-Encoding: 8BIT",
    ],
)
def test_a_field_called_image_is_an_image_with_or_without_a_file_name(header: bytes) -> None:
    assert read(form(part(header))) == [IMAGE]


@pytest.mark.parametrize("content_type", ['multipart/form-data; charset=utf-8; boundary="b"', TYPE + "; x=y"])
def test_the_boundary_may_be_quoted(content_type: str) -> None:
    assert read(form(part(NAMED)), content_type) == [IMAGE]


def test_parameters_are_few() -> None:
    with pytest.raises(MalformedRequest, match="too many parameters"):
        read(form(part(NAMED + b";" * 100)))
    with pytest.raises(MalformedRequest, match="too many parameters"):
        read(form(*(part(NAMED + b"; a=b" * 10) for _ in range(60))))
    with pytest.raises(MalformedRequest, match="Content-Type has more than 64 parameters"):
        read(form(part(NAMED)), TYPE + ";" * 100)
    assert read(form(*(part(NAMED + b'; filename="a;b.png"') for _ in range(9)))) == [IMAGE] * 9


@pytest.mark.parametrize("boundary", ["----WebKitFormBoundary7MA4YWxk", "a'()+_,-./:=? b", "b" * 70, "------"])
def test_any_boundary(boundary: str) -> None:
    body = form(part(NAMED)).replace(b"--b\r\n", f"--{boundary}\r\n".encode())
    body = body.replace(b"--b--", f"--{boundary}--".encode())
    assert read(body, f'multipart/form-data; boundary="{boundary}"') == [IMAGE]


def test_what_surrounds_the_parts_is_skipped() -> None:
    body = form(part(NAMED))
    for preamble in (b"", b"\r\n", b"This is a message with multiple parts in MIME format.\r\n", b"--bc\r\n"):
        for epilogue in (b"", b"\r\n", b"\r\nand more\r\n--b\r\n"):
            assert read(preamble + body.removesuffix(b"\r\n") + epilogue) == [IMAGE]
    assert read(body.replace(b"--b\r\n", b"--b  \t\r\n", 1)) == [IMAGE]


def test_images_keep_their_order_and_others_are_skipped() -> None:
    text = part(b'Content-Disposition: form-data; name="caption"', b"x" * 3_000_000)
    nameless = part(b"Content-Type: text/plain", b"nothing")
    headless = b"\r\nneither header nor name"
    parts = [text, part(NAMED, b"1"), nameless, part(NAMED, b""), headless, *[text[:90]] * 900, part(NAMED, b"3")]
    assert read(form(*parts)) == [b"1", b"", b"3"]


@pytest.mark.parametrize("break_", [b"\r\n", b"\n"])
def test_base64_and_quoted_printable_are_decoded(break_: bytes) -> None:
    encoded = base64.encodebytes(IMAGE * 50).replace(b"\n", break_)
    header = NAMED + b"\r\nContent-Transfer-Encoding: Base64"
    assert read(form(part(header, encoded))) == [IMAGE * 50]
    header = NAMED + b"\r\nContent-Transfer-Encoding: quoted-printable"
    assert read(form(part(header, binascii.b2a_qp(IMAGE * 50, istext=False).replace(b"=\n", b"=" + break_)))) == [
        IMAGE * 50
    ]


def test_what_pythons_mail_library_writes() -> None:
    message = MIMEMultipart("form-data")
    for content in (b"one", b"two" * 100):
        attached = MIMEImage(content, "png")
        attached.add_header("Content-Disposition", "form-data", name="image", filename=("utf-8", "", "图.png"))
        message.attach(attached)
    head, _, body = message.as_bytes().replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    (content_type,) = re.findall(r"Content-Type: (multipart.*?)\r\n(?!\s)", head.decode() + "\r\n", re.DOTALL)
    assert read(body, content_type.replace("\r\n", "")) == [b"one", b"two" * 100]


def test_what_httpx_writes() -> None:
    request = httpx.Request("POST", "http://x", files=[("image", ("图.png", IMAGE)), ("image", (None, b"two"))])
    assert read(request.read(), request.headers["content-type"]) == [IMAGE, b"two"]


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (form(part(NAMED)), "multipart/form-data", "Content-Type has no boundary"),
        (form(part(NAMED)), "multipart/form-data; boundary=", "Content-Type has no boundary"),
        (form(part(NAMED)), "multipart/form-data; boundary=" + "b" * 300, "longer than 256"),
        (form(part(NAMED)), "multipart/form-data; boundary=c", "nowhere in the body"),
        (form(part(NAMED, b"1")).replace(b"\r\n", b"\n"), TYPE, "line of its own with CR LF"),
        (form(part(NAMED), last=b""), TYPE, "some of it is missing"),
        (form(part(NAMED), last=b"--b\r\n"), TYPE, "some of it is missing"),
        (form(part(NAMED), last=b"--b"), TYPE, "some of it is missing"),
        (form(NAMED), TYPE, "no blank line"),
        (form(b""), TYPE, "no blank line"),
        (form(), TYPE, "no field named 'image' and no other"),
        (form(part(NAMED.replace(b"image", b"photo"))), TYPE, "no field named 'image' but 'photo'"),
        (form(part(NAMED.replace(b"image", b"image[]"))), TYPE, r"but 'image\[\]'"),
        (form(part(NAMED.replace(b'"image"', b'""')), part(b"X: y")), TYPE, "but one without a name"),
        (
            form(*(part(NAMED.replace(b"image", b"f%d" % number)) for number in range(20))),
            TYPE,
            "'f0', 'f1', .*, 'f7' and 12 more",
        ),
        (form(part(NAMED.replace(b"image", b"n" * 9000))), TYPE, "'n{40}'$"),
        (form(part(NAMED.replace(b"image", b"model"))), TYPE, "model in the body: it goes into the query"),
        (form(part(NAMED), part(NAMED.replace(b"image", b"top_k"), b"3")), TYPE, "top_k in the body"),
        (form(part(NAMED), part(NAMED.replace(b"image", b"topK"), b"3")), TYPE, "top_k in the body"),
        (form(*[part(NAMED, b"")] * 65), TYPE, "more than 64 fields named 'image'"),
        (form(*[part(b"X: y", b"")] * 1001), TYPE, "more than 1000 parts"),
        (form(part(NAMED, b"\r\n--bc" * 1000)), TYPE, "more than 1000 parts"),
        (form(part(NAMED + b"\r\nX: " + b"y" * 2**18)), TYPE, "262144 bytes of headers"),
        (form(*[part(b"X: " + b"y" * 2**16)] * 5), TYPE, "more than 262144 bytes of headers"),
        (form(part(NAMED + b"\r\nContent-Transfer-Encoding: base64", b"***")), TYPE, "announces base64"),
        (form(part(NAMED + b"\r\nContent-Transfer-Encoding: uuencode")), TYPE, "'uuencode' is none of"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(body: bytes, content_type: str, says: str) -> None:
    with pytest.raises(MalformedRequest, match=says) as refused:
        read(body, content_type)
    assert len(refused.value.message) < 300
