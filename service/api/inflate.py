"""Compressed body -> body (RFC 9110 Content-Encoding), never past the size limit."""

import zlib

from service.errors import MalformedRequest, PayloadTooLarge, UnsupportedEncoding

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's `wbits`
_PLAIN = ("", "identity")
_MEMBERS = 1000  # of gzip; each costs its set-up, however short it is
_PIECE = 256 * 2**10  # bytes looked at together; what follows a member is copied


def inflate(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """The body before its client compressed it with gzip or deflate; without an encoding, `body` itself.

    Inflates `max_bytes` and no more, which takes tens of milliseconds however short `body` is: call it off the event
    loop. `gzip` may have several members, one behind another (RFC 1952, section 2.2); `deflate` is taken with its zlib
    header and, as some clients send it, without.

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
    inflated: list[bytes] = []
    left = max_bytes + 1  # one byte more tells that there is more
    members = 1
    inflater = zlib.decompressobj(form)
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        while piece:
            if inflater.eof:
                members += 1
                if form != _GZIP or members > _MEMBERS:
                    raise MalformedRequest(f"the body goes on after its {encoding} data", reason="compression")
                inflater = zlib.decompressobj(form)
            try:
                inflated.append(inflater.decompress(piece, left))
            except zlib.error:
                raise MalformedRequest(f"the body is not intact {encoding} data", reason="compression") from None
            left -= len(inflated[-1])
            if not left:
                raise PayloadTooLarge(f"the inflated body exceeds {max_bytes} bytes", reason="body_bytes")
            piece = inflater.unused_data
    if not inflater.eof:
        raise MalformedRequest(f"the {encoding} data is truncated", reason="compression")
    return b"".join(inflated)


def _has_zlib_header(body: bytes) -> bool:
    """RFC 1950: the method is 8, and the first two bytes are a multiple of 31."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
