"""Compressed body -> body (RFC 9110 Content-Encoding), never past the size limit."""

import zlib
from collections.abc import Iterator

from service.errors import MalformedRequest, PayloadTooLarge, UnsupportedEncoding

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's `wbits`
_MEMBERS = 1000  # of gzip; each costs its set-up, however short it is
_PIECE = 2**20  # bytes looked at together, and given at once; what follows them is copied


def inflate(body: bytes, encoding: str, max_bytes: int) -> Iterator[bytes]:
    """The body before its client compressed it with gzip or deflate, in pieces. `encoding` is in lower case.

    A piece takes milliseconds, however short `body` is, and all of them tens: ask for them off the event loop.
    There are `max_bytes` of them and no more. `gzip` may have several members, one behind another (RFC 1952, section
    2.2); `deflate` is taken with its zlib header and, as some clients send it, without.

    Raises UnsupportedEncoding, MalformedRequest if the data is damaged, truncated or followed by more, and
    PayloadTooLarge.
    """
    if encoding in ("gzip", "x-gzip"):
        form = _GZIP
    elif encoding == "deflate":
        form = _ZLIB if _has_zlib_header(body) else _RAW
    else:
        raise UnsupportedEncoding("Content-Encoding can be gzip or deflate, once")
    left = max_bytes
    members = 1
    inflater = zlib.decompressobj(form)
    for start in range(0, len(body), _PIECE):
        compressed, full = body[start : start + _PIECE], False
        while compressed or (full and not inflater.eof):  # what is consumed may have more to give
            if inflater.eof:
                members += 1
                if form != _GZIP or members > _MEMBERS:
                    raise MalformedRequest(f"the body goes on after its {encoding} data", reason="compression")
                inflater = zlib.decompressobj(form)
            try:
                piece = inflater.decompress(compressed, _PIECE)
            except zlib.error:
                raise MalformedRequest(f"the body is not intact {encoding} data", reason="compression") from None
            left -= len(piece)
            if left < 0:
                raise PayloadTooLarge(f"the inflated body exceeds {max_bytes} bytes", reason="body_bytes")
            if piece:
                yield piece
            compressed, full = inflater.unconsumed_tail or inflater.unused_data, len(piece) == _PIECE
    if not inflater.eof:
        raise MalformedRequest(f"the {encoding} data is truncated", reason="compression")


def _has_zlib_header(body: bytes) -> bool:
    """RFC 1950: the method is 8, and the first two bytes are a multiple of 31."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
