"""Compressed body -> body (RFC 9110 Content-Encoding), never past the size limit."""

import zlib

from service.errors import MalformedRequest, PayloadTooLarge, UnsupportedEncoding

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's `wbits`
_PLAIN = ("", "identity")


def inflate(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """The body before its client compressed it with gzip or deflate; without an encoding, `body` itself.

    Inflates `max_bytes` and no more, which takes tens of milliseconds however short `body` is: call it off the event
    loop. `deflate` is taken with its zlib header and, as some clients send it, without.

    Raises UnsupportedEncoding, MalformedRequest if the data is damaged, truncated or followed by more, and
    PayloadTooLarge.
    """
    encoding = content_encoding.strip().lower()
    if encoding in _PLAIN:
        return body
    if encoding in ("gzip", "x-gzip"):
        form = _GZIP
    elif encoding == "deflate":
        form = _ZLIB if _has_zlib_header(body) else _RAW
    else:
        raise UnsupportedEncoding("Content-Encoding can be gzip or deflate, once")
    inflater = zlib.decompressobj(form)
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise MalformedRequest(f"the body is not intact {encoding} data", reason="compression") from None
    if len(inflated) > max_bytes:
        raise PayloadTooLarge(f"the inflated body exceeds {max_bytes} bytes", reason="body_bytes")
    if not inflater.eof:
        raise MalformedRequest(f"the {encoding} data is truncated", reason="compression")
    if inflater.unused_data:
        raise MalformedRequest(f"the body goes on after its {encoding} data", reason="compression")
    return inflated


def _has_zlib_header(body: bytes) -> bool:
    """RFC 1950: the method is 8, and the first two bytes are a multiple of 31."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
