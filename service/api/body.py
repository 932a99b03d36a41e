"""Request body -> encoded images: raw bytes, multipart/form-data or JSON with base64, never past the size limit."""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator
from email.message import Message

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.api.inflate import inflate
from service.errors import ClientGone, MalformedRequest, PayloadTooLarge

MAX_IMAGES_PER_REQUEST = 64
_LEFT = "the client left while sending its request"
LARGE = 256 * 2**10  # bytes; about a millisecond of parsing
_DATA_URL = re.compile(r"data:[^,]{0,256};base64,", re.IGNORECASE)  # RFC 2397, as browsers read files


_MOST_PARTS = 1000  # of JSON: objects, lists, commas


class _InMemoryMultiPartParser(MultiPartParser):
    spool_max_size = 2**63  # the body is bounded already, and the service writes no file


async def read_images(request: Request, max_body_bytes: int) -> list[bytes]:
    """The encoded images of a request, in order, at least one.

    `multipart/form-data` holds them in fields named `image`, `application/json` as `{"image": "<base64>"}`, where a
    `data:` URL will do; any other type, or none, means that the body is the image (curl --data-binary announces a
    form). All of it may be compressed, and is bounded by `max_body_bytes` on the way and once inflated.

    Raises MalformedRequest, PayloadTooLarge, UnsupportedEncoding, or ClientGone if the client leaves while sending.
    """
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        return await _from_multipart(request, max_body_bytes)
    body = await read_body(request, max_body_bytes)
    if media_type == "application/json":
        # Megabytes of base64 would hold the event loop, and everybody with it.
        return [await asyncio.to_thread(_from_json, body) if len(body) > LARGE else _from_json(body)]
    if not body:
        raise MalformedRequest("the body is empty; send an image", reason="empty_body")
    return [body]


async def read_body(request: Request, max_body_bytes: int) -> bytes:
    """The whole body, inflated if it is compressed, and bounded by `max_body_bytes` on the way and then.

    Raises MalformedRequest, PayloadTooLarge, UnsupportedEncoding, or ClientGone if the client leaves while sending.
    """
    try:
        return b"".join([chunk async for chunk in _chunks(request, max_body_bytes)])
    except ClientDisconnect:
        raise ClientGone(_LEFT) from None


def _media_type(request: Request) -> str:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    return message.get_content_type()


async def _bounded(request: Request, max_body_bytes: int) -> AsyncGenerator[bytes]:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_body_bytes:
            raise _too_large(max_body_bytes)
        yield chunk


def _chunks(request: Request, max_body_bytes: int) -> AsyncGenerator[bytes]:
    chunks = _bounded(request, max_body_bytes)
    if encoding := ", ".join(request.headers.getlist("content-encoding")):
        return _inflated(chunks, encoding, max_body_bytes)
    return chunks


async def _inflated(chunks: AsyncGenerator[bytes], encoding: str, max_bytes: int) -> AsyncGenerator[bytes]:
    body = b"".join([chunk async for chunk in chunks])
    yield await asyncio.to_thread(inflate, body, encoding, max_bytes)


def _too_large(max_body_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body exceeds {max_body_bytes} bytes", reason="body_bytes")


async def _from_multipart(request: Request, max_body_bytes: int) -> list[bytes]:
    chunks = _chunks(request, max_body_bytes)
    parser = _InMemoryMultiPartParser(request.headers, chunks, max_files=MAX_IMAGES_PER_REQUEST)
    try:
        form = await parser.parse()
    except ClientDisconnect:
        raise ClientGone(_LEFT) from None
    except (MultiPartException, UnicodeError) as error:  # the latter where an odd charset is announced
        why = error.message if isinstance(error, MultiPartException) else "its charset"
        raise MalformedRequest(f"the multipart body cannot be parsed: {why}", reason="multipart") from None
    try:
        images = [await part.read() for part in form.getlist("image") if isinstance(part, UploadFile)]
    finally:
        await form.close()
    if not images:
        raise MalformedRequest("the form has no file field named 'image'", reason="multipart")
    return images


def _from_json(body: bytes) -> bytes:
    try:
        if any(body.count(mark) > _MOST_PARTS for mark in b"{[,"):  # which would hold everybody up
            raise ValueError
        image = json.loads(body)["image"]
        data_url = _DATA_URL.match(image)
        return base64.b64decode(image[data_url.end() :] if data_url else image, validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise MalformedRequest('the JSON body must be {"image": "<base64>"}', reason="json") from None
