"""Request body -> encoded images: raw bytes, multipart/form-data or JSON with base64, never past the size limit."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from service.api.base64_text import decode_base64
from service.api.form import images_in_form
from service.api.inflate import inflate
from service.api.json_text import parse_json
from service.api.parameters import ClassifyParameters
from service.errors import ClientGone, MalformedRequest, PayloadTooLarge, ServiceError

MAX_IMAGES_PER_REQUEST = 64
FORM, JSON = "multipart/form-data", "application/json"
LARGE = 64 * 2**10  # bytes, up to which a millisecond is enough to parse a body
_LONGEST_REST = 0.1  # seconds
_PART = 2**10  # bytes: what as much time as a part of a form takes would be enough for

Charge = Callable[[int], None]  # told of bytes as they come; it may raise, and then no more of the body is taken

_LONG_TO_COPY = 2**20  # bytes
_SHAPE = '{"image": "<base64>"} or {"images": ["<base64>", ...]}'
# Of JSON. PHP escapes every slash of base64, others every end of a line: 700,000 in 16 MiB.
_MOST_PARTS = {b"{": 1000, b"[": 1000, b",": 1000, b"\\": 1_000_000}
_Parsed = TypeVar("_Parsed")


def free(received: int) -> None:
    """Charge nothing."""


async def read_images(request: Request, max_body_bytes: int, charge: Charge = free) -> list[bytes]:
    """The encoded images of a request, in order, at least one.

    `multipart/form-data` holds them in fields named `image`, `application/json` as `{"image": "<base64>"}` or
    `{"images": [...]}`, where `data:` URLs will do; any other type, or none, means that the body is the image (curl
    --data-binary announces a form). All of it may be compressed, and is bounded by `max_body_bytes` on the way and
    once inflated.

    Raises MalformedRequest, PayloadTooLarge, UnsupportedEncoding, UnsupportedImage if there is one image that is
    something else, ClientGone if the client leaves while sending, or what `charge` raises.
    """
    body = await read_body(request, max_body_bytes, charge)
    if not body:
        raise MalformedRequest("the body is empty; send an image", reason="empty_body")
    kind = media_type(request.scope)
    size = len(body)
    if kind == FORM:
        content_type = request.headers["content-type"]
        if size <= LARGE:
            size += _PART * body.count(b"\r\n--")
        parse = partial(images_in_form, body, content_type, "image", MAX_IMAGES_PER_REQUEST)
    elif kind == JSON:
        parse = partial(_from_json, body)
    else:
        return [body]
    return await parsed(parse, size)


def media_type(scope: Scope) -> str:
    """What a request says that its body is, without parameters and in lower case; empty if it does not say."""
    said = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return said.decode("latin-1").partition(";")[0].strip().lower()


async def parsed(parse: Callable[[], _Parsed], size: int) -> _Parsed:
    """What `parse` returns for a body of `size` bytes; it runs off the event loop unless the body is small.

    One body after the other: parsing mostly holds the interpreter, for which more threads would only compete with the
    event loop.
    """
    if size <= LARGE:
        return parse()
    return await _PARSER.run(parse)


class Parser:
    """A thread that rests as long as it has parsed, or a while: the event loop needs the interpreter too."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "parser")
        self._rests_until = 0.0  # of `time.monotonic`

    async def run(self, parse: Callable[[], _Parsed]) -> _Parsed:
        """What `parse` returns; one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._after_rest, parse)

    def _after_rest(self, parse: Callable[[], _Parsed]) -> _Parsed:
        time.sleep(max(0.0, self._rests_until - time.monotonic()))
        started = time.monotonic()
        try:
            return parse()
        finally:
            ended = time.monotonic()
            self._rests_until = ended + min(ended - started, _LONGEST_REST)


_PARSER = Parser()


async def read_body(request: Request, max_body_bytes: int, charge: Charge = free) -> bytes:
    """The whole body, inflated if it is compressed, and bounded by `max_body_bytes` on the way and then.

    `charge` is told of the bytes as they are received, and of those that they inflate to.

    Raises MalformedRequest, PayloadTooLarge, UnsupportedEncoding, ClientGone if the client leaves while sending, or
    what `charge` raises.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    chunks: list[bytes] = []
    received, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            refusal: ServiceError | None = request.scope.get("mixer.refusal")  # or it was the connection that ended it
            raise refusal or ClientGone("the client left while sending its request")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        received += len(chunk)
        if received > max_body_bytes:
            raise _too_large(max_body_bytes)
        charge(len(chunk))
        chunks.append(chunk)
    body = chunks[0] if len(chunks) == 1 else await _joined(chunks)
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity"):
        return await _inflated(body, encoding, max_body_bytes, charge)
    return body


def _too_large(max_body_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body exceeds {max_body_bytes} bytes", reason="body_bytes")


async def _inflated(body: bytes, encoding: str, max_bytes: int, charge: Charge) -> bytes:
    pieces = inflate(body, encoding, max_bytes)
    inflated = []
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        charge(len(piece))
        inflated.append(piece)
    return await _joined(inflated)


async def _joined(chunks: list[bytes]) -> bytes:
    large = sum(map(len, chunks)) > _LONG_TO_COPY
    return await asyncio.to_thread(b"".join, chunks) if large else b"".join(chunks)


def _from_json(body: bytes) -> list[bytes]:
    document = parse_json(body, _MOST_PARTS, f"send {_SHAPE}")
    if not isinstance(document, dict):
        raise _malformed(f"the JSON body must be {_SHAPE}")
    if len(document) > 1:  # null is how some clients write what they leave out
        document = {name: value for name, value in document.items() if value is not None}
    ClassifyParameters.refuse_in_body(*document)
    if ("image" in document) == ("images" in document):
        names = ", ".join(repr(name[:40]) for name in list(document)[:8])
        raise _malformed(f"the JSON body must be {_SHAPE}; its members are {names or 'none'}")
    if "image" in document:
        return [_from_base64(document["image"], "image")]
    images = document["images"]
    if not isinstance(images, list) or not 1 <= len(images) <= MAX_IMAGES_PER_REQUEST:
        raise _malformed(f"images must be a list of 1 to {MAX_IMAGES_PER_REQUEST} strings of base64")
    return [_from_base64(image, f"images[{number}]") for number, image in enumerate(images)]


def _from_base64(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise _malformed(f"{where} must be a string of base64")
    try:
        return decode_base64(value)
    except ValueError as error:
        raise _malformed(f"{where} is not base64: {error}") from None


def _malformed(message: str) -> MalformedRequest:
    return MalformedRequest(message, reason="json")
