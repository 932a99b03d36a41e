import base64
import gzip
import json
import random
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi import Request

from service.api import body
from service.api.body import LARGE, Parser, read_body, read_images
from service.errors import ClientGone, MalformedRequest, Overloaded, PayloadTooLarge
from tests.doubles import level_png

pytestmark = pytest.mark.anyio

LIMIT = 2**23
IMAGES = [level_png(level) for level in (1, 2, 3)]
TEXTS = [base64.b64encode(image).decode() for image in IMAGES]
FORM = "multipart/form-data; boundary=b"


def sent(body: bytes | Iterable[bytes], content_type: str = "", **headers: str) -> Request:
    """A request whose body comes in these pieces, and then no more if they do not end it."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    named = {"content-type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in named.items() if value]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return Request({"type": "http", "headers": raw}, receive)


def form(*images: bytes) -> bytes:
    parts = (b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + image + b"\r\n" for image in images)
    return b"".join(parts) + b"--b--\r\n"


def documents(**members: object) -> bytes:
    return json.dumps(members).encode()


async def images_of(body: bytes, content_type: str = "", **headers: str) -> list[bytes]:
    return await read_images(sent(body, content_type, **headers), LIMIT)


@pytest.mark.parametrize(
    "content_type", ["", "image/png", "text/plain", "application/x-www-form-urlencoded", "nonsense;;", "; boundary=b"]
)
async def test_a_body_of_any_other_type_is_the_image(content_type: str) -> None:
    assert await images_of(IMAGES[0], content_type) == IMAGES[:1]


@pytest.mark.parametrize("content_type", [FORM, "Multipart/Form-Data; Boundary=b", 'multipart/form-data;boundary="b"'])
async def test_a_form(content_type: str) -> None:
    assert await images_of(form(*IMAGES), content_type) == IMAGES


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json(content_type: str) -> None:
    assert await images_of(documents(image=TEXTS[0], note="x"), content_type) == IMAGES[:1]
    assert await images_of(documents(image=TEXTS[0], images=None, top_k=None), content_type) == IMAGES[:1]
    assert await images_of(documents(images=TEXTS), content_type) == IMAGES
    assert await images_of(documents(images=TEXTS[:1]), content_type) == IMAGES[:1]
    assert await images_of(documents(images=["AAAA"] * 64), content_type) == [bytes(3)] * 64
    assert await images_of(b"\xef\xbb\xbf" + documents(image=TEXTS[0]), content_type) == IMAGES[:1]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (IMAGES[0], "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
        (gzip.compress(documents(image=TEXTS[0])), "gzip data without Content-Encoding"),
        (b"[" * 9000, "more parts|recursion"),
        (b'{"image": ' + b"[" * 300, "not JSON"),
        (b"[]", r'must be \{"image": "<base64>"\} or \{"images": \["<base64>", ...\]\}'),
        (documents(picture="", size=3), "its members are 'picture', 'size'"),
        (documents(), "its members are none"),
        (documents(image=TEXTS[0], images=TEXTS), "its members are 'image', 'images'"),
        (documents(**{"n" * 99: 1}), "'n{40}'$"),
        (documents(image=TEXTS), "image must be a string of base64"),
        (documents(image=None), "image must be a string of base64"),
        (documents(image="%%%"), "image is not base64: it has characters"),
        (documents(image="data:image/png,abc"), "image is not base64: the data: URL"),
        (documents(images=TEXTS[0]), "images must be a list of 1 to 64"),
        (documents(images=[]), "images must be a list of 1 to 64"),
        (documents(images=["AAAA"] * 65), "images must be a list of 1 to 64"),
        (documents(images=[*TEXTS, 3]), r"images\[3\] must be a string"),
        (documents(images=[*TEXTS, "AAAAA"]), r"images\[3\] is not base64"),
        (b'{"image":[' + b",".join([b"{}"] * 1500) + b"]}", "more parts"),
        (documents(image=TEXTS[0], top_k=3), "top_k in the body: it goes into the query"),
        (documents(image=TEXTS[0], **{"top-k": 3}), "top_k in the body: it goes into the query"),
        (documents(image=TEXTS[0], model="a", version="1"), "model, version in the body"),
    ],
)
async def test_json_that_holds_no_image_says_why(body: bytes, says: str) -> None:
    with pytest.raises(MalformedRequest, match=says) as refused:
        await images_of(body, "application/json")
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("content_type", ["", FORM, "application/json"])
async def test_an_empty_body(content_type: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        await images_of(b"", content_type)
    assert refused.value.reason == "empty_body"


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("", bytes),
        ("identity", bytes),
        (" Identity ", bytes),
        ("gzip", gzip.compress),
        (" GZip ", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
async def test_what_is_received_is_charged_and_what_it_inflates_to(encoding: str, compress) -> None:  # type: ignore[no-untyped-def]
    data = random.Random(1).randbytes(1000) * 7000
    compressed = compress(data)
    pieces = [compressed[start : start + 500_000] for start in range(0, len(compressed), 500_000)]
    charged: list[int] = []
    body = await read_body(sent(pieces, content_encoding=encoding), LIMIT, charged.append)
    assert body == data
    assert charged[: len(pieces)] == [len(piece) for piece in pieces]
    assert sum(charged) == len(compressed) + (0 if compress is bytes else len(data))
    if compress is not bytes:
        assert len(charged) > len(pieces) + 5


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_who_cannot_be_charged_any_more_is_read_no_further(encoding: str) -> None:
    charged = 0
    read = 0
    body = gzip.compress(bytes(LIMIT)) if encoding else bytes(LIMIT)

    def charge(size: int) -> None:
        nonlocal charged
        charged += size
        if charged > 3_000_000:
            raise Overloaded("no room", reason="inflight_bytes")

    def pieces() -> Iterable[bytes]:
        nonlocal read
        for start in range(0, len(body), 100_000):
            read += 1
            yield body[start : start + 100_000]

    coming = iter(pieces())

    async def receive() -> dict[str, Any]:
        piece = next(coming, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    request = Request({"type": "http", "headers": [(b"content-encoding", encoding.encode())]}, receive)
    with pytest.raises(Overloaded):
        await read_body(request, LIMIT, charge)
    assert read == (1 if encoding else 31)
    assert charged < 4_200_000


async def test_what_is_announced_is_not_charged() -> None:
    charged: list[int] = []
    await read_body(sent(b"abc", content_length="1000000"), LIMIT, charged.append)
    assert sum(charged) == 3


async def test_a_body_is_bounded_by_what_it_announces_and_by_what_comes() -> None:
    with pytest.raises(PayloadTooLarge):
        await read_body(sent([], content_length="11"), 10)
    with pytest.raises(PayloadTooLarge):
        await read_body(sent([b"12345", b"678901", b""]), 10)
    assert await read_body(sent([b"12345", b"", b"67890"]), 10) == b"1234567890"
    many = [struct.pack("B", number % 256) for number in range(3 * LARGE)]
    assert await read_body(sent(many), LIMIT) == b"".join(many)


async def test_a_client_that_leaves() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read_body(Request({"type": "http", "headers": []}, receive), LIMIT)


async def test_the_parser_rests_as_long_as_it_has_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], list[float]()

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

    def parse() -> str:
        now[0] += 0.02 if not slept[1:] else 3
        return "parsed"

    monkeypatch.setattr(body, "time", Clock)
    parser = Parser()
    assert [await parser.run(parse) for _ in range(3)] == ["parsed"] * 3
    assert slept == pytest.approx([0, 0.02, 0.1])
