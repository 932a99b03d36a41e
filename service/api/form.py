"""multipart/form-data -> the images in it (RFC 7578), in linear time and few steps whatever the body holds."""

import binascii
import re
from collections.abc import Iterator

from python_multipart.multipart import parse_options_header

from service.api.base64_text import decode_base64
from service.api.parameters import ClassifyParameters
from service.errors import MalformedRequest

_MOST_PARTS = 1000
_MOST_HEADER_BYTES = 256 * 2**10  # of all parts together; a part with a long file name has one or two thousand
_MOST_OPTIONS, _OPTIONS_EACH = 64, 4  # semicolons in headers: of all parts together, and more for each of them
_LONGEST_BOUNDARY = 256  # bytes; 70 by RFC 2046
_PIECE = 2**18  # bytes
_END_OF_LINE = re.compile(rb"[ \t]*\r\n")
_FOLDED = re.compile(rb"\r\n[ \t]+")
_MOST_NAMED = 8  # fields in an error's message


def images_in_form(body: bytes, content_type: str, field: str, most: int) -> list[bytes]:
    """The contents of the fields called `field`, in order: at least one, and `most` at most.

    With or without a file name, and decoded where the part says base64 or quoted-printable. Other fields are skipped,
    whatever their size.

    Raises MalformedRequest.
    """
    images: list[bytes] = []
    names: dict[str, None] = {}  # in order
    left, options = _MOST_HEADER_BYTES, _MOST_OPTIONS
    for start, end in _parts(body, _boundary(content_type)):
        # An empty header ends where the line of the boundary does.
        blank = body.find(b"\r\n\r\n", start - 2, min(end, start + left))
        if blank == -1 and end > start + left:
            raise _malformed(f"its parts have more than {_MOST_HEADER_BYTES} bytes of headers")
        if blank == -1:
            raise _malformed("a part has no blank line between its headers and its content")
        left -= blank - start
        options += _OPTIONS_EACH - body.count(b";", start, blank)
        if options < 0:
            raise _malformed("the headers of its parts have too many parameters")
        name, encoding = _described(body[start:blank])
        names[name] = None
        ClassifyParameters.refuse_in_body(name)
        if name != field:
            continue
        if len(images) == most:
            raise _malformed(f"it has more than {most} fields named '{field}'")
        images.append(_decoded(body[blank + 4 : end], encoding))
    if not images:
        raise _malformed(f"it has no field named '{field}' {_others(list(names))}")
    return images


def _boundary(content_type: str) -> bytes:
    if content_type.count(";") > _MOST_OPTIONS:
        raise _malformed(f"Content-Type has more than {_MOST_OPTIONS} parameters")
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise _malformed("Content-Type has no boundary; let the client set it, who knows it")
    if len(boundary) > _LONGEST_BOUNDARY:
        raise _malformed(f"the boundary is longer than {_LONGEST_BOUNDARY} bytes")
    return boundary


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends; what comes before the first, and after the last, belongs to none."""
    delimiter = b"\r\n--" + boundary
    at = -2 if body.startswith(delimiter[2:]) else _find(body, delimiter, 0)  # the first needs no line before it
    begun = None
    for _ in range(_MOST_PARTS + 1):
        if at == -1 and begun is None:
            raise _malformed("the boundary of Content-Type, in a line of its own with CR LF, is nowhere in the body")
        if at == -1:
            raise _malformed("it ends without its last boundary, so some of it is missing")
        after = at + len(delimiter)
        last = body.startswith(b"--", after)
        line = _END_OF_LINE.match(body, after)
        if begun is not None and (last or line):
            yield begun, at
        if last:
            return
        if line:
            begun = after = line.end()
        at = _find(body, delimiter, after - 2)
    raise _malformed(f"it has more than {_MOST_PARTS} parts")


def _find(body: bytes, delimiter: bytes, start: int) -> int:
    """As `bytes.find`, and lets others run in between: among near misses a search takes ten times as long."""
    while start < len(body):
        at = body.find(delimiter, start, start + _PIECE + len(delimiter))
        if at != -1:
            return at
        start += _PIECE
    return -1


def _described(headers: bytes) -> tuple[str, str]:
    """The part's name, and its Content-Transfer-Encoding."""
    fields = {}
    for line in _FOLDED.sub(b" ", headers).split(b"\r\n"):
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    _, options = parse_options_header(fields.get(b"content-disposition"))
    encoding = fields.get(b"content-transfer-encoding", b"").lower()
    return options.get(b"name", b"").decode(errors="replace"), encoding.decode(errors="replace")


def _decoded(content: bytes, encoding: str) -> bytes:
    """Deprecated by RFC 7578, section 4.7, and still sent by mail libraries."""
    if encoding in ("", "binary", "8bit", "7bit"):
        return content
    if encoding == "base64":
        try:
            return decode_base64(content)
        except ValueError as error:
            raise _malformed(f"a part announces base64, and {error}") from None
    if encoding == "quoted-printable":
        return binascii.a2b_qp(content)
    raise _malformed(f"Content-Transfer-Encoding {encoding[:40]!r} is none of base64, quoted-printable and binary")


def _others(names: list[str]) -> str:
    if not names:
        return "and no other"
    listed = ", ".join(repr(name[:40]) if name else "one without a name" for name in names[:_MOST_NAMED])
    return f"but {listed}" + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _malformed(what: str) -> MalformedRequest:
    return MalformedRequest(f"the form cannot be read: {what}", reason="multipart")
