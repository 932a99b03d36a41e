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

from service.errors import ClientGone, MalformedRequest, PayloadTooLarge
from service.inflate import inflate

MAX_IMAGES_PER_REQUEST = 64
_LEFT = "the client left while sending its request"
_DATA_URL = re.compile(r"data:[^,]{0,256};base64,", re.IGNORECASE)  # RFC 2397, as browsers read files
_LARGE = 256 * 2**10  # bytes; about a millisecond of parsing


class _InMemoryMultiPartParser(MultiPartParser):
    spool_max_size = 2**63  # the body is bounded already, and the service writes no file


async def read_images(request: Request, max_body_bytes: int) -> list[bytes]:
    """The encoded images of a request, in order, at least one.

    `multipart/form-data` holds them in fields named `image`, `application/json` as `{"image": "<base64>"}`, where a
    `data:` URL will do; any other type, or none, means that the body is the image (curl --data-binary announces a
    form). All of it may be compressed, and is bounded by `max_body_bytes` on the way and once inflated.

    Raises MalformedRequest, PayloadTooLarge, UnsupportedEncoding, or ClientGone if the client leaves while sending.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    media_type = _media_type(request)
    chunks = _bounded(request, max_body_bytes)
    if encoding := request.headers.get("content-encoding"):
        chunks = _inflated(chunks, encoding, max_body_bytes)
    try:
        if media_type == "multipart/form-data":
            return await _from_multipart(request, chunks)
        body = b"".join([chunk async for chunk in chunks])
    except ClientDisconnect:
        raise ClientGone(_LEFT) from None
    if media_type == "application/json":
        # Megabytes of base64 would hold the event loop, and everybody with it.
        return [await asyncio.to_thread(_from_json, body) if len(body) > _LARGE else _from_json(body)]
    if not body:
        raise MalformedRequest("the body is empty; send an image", reason="empty_body")
    return [body]


async def read_body(request: Request, max_body_bytes: int) -> bytes:
    """The whole body; raises PayloadTooLarge, or ClientGone if the client leaves while sending."""
    try:
        return b"".join([chunk async for chunk in _bounded(request, max_body_bytes)])
    except ClientDisconnect:
        raise ClientGone(_LEFT) from None


def _media_type(request: Request) -> str:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    return message.get_content_type()


async def _bounded(request: Request, max_body_bytes: int) -> AsyncGenerator[bytes]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_body_bytes:
            raise _too_large(max_body_bytes)
        yield chunk


async def _inflated(chunks: AsyncGenerator[bytes], encoding: str, max_bytes: int) -> AsyncGenerator[bytes]:
    body = b"".join([chunk async for chunk in chunks])
    yield await asyncio.to_thread(inflate, body, encoding, max_bytes)


def _too_large(max_body_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body exceeds {max_body_bytes} bytes", reason="body_bytes")


async def _from_multipart(request: Request, chunks: AsyncGenerator[bytes]) -> list[bytes]:
    parser = _InMemoryMultiPartParser(request.headers, chunks, max_files=MAX_IMAGES_PER_REQUEST)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedRequest(f"the multipart body cannot be parsed: {error.message}", reason="multipart") from None
    try:
        images = [await part.read() for part in form.getlist("image") if isinstance(part, UploadFile)]
    finally:
        await form.close()
    if not images:
        raise MalformedRequest("the form has no file field named 'image'", reason="multipart")
    return images


def _from_json(body: bytes) -> bytes:
    try:
        image = json.loads(body)["image"]
        data_url = _DATA_URL.match(image)
        return base64.b64decode(image[data_url.end() :] if data_url else image, validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise MalformedRequest('the JSON body must be {"image": "<base64>"}', reason="json") from None
