"""The bytes of a ModelInferRequest, looked through before they are parsed: what is asked for, and the tensors' bytes.

A message of two bytes an entry would become fifty times as large once it is parsed. So entries are counted first, and
raw tensors, which are most of what is sent, are left where they are (Protocol Buffers, encoding; numbers as in
inference.proto).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from service.errors import MalformedRequest

_MOST_FIELDS = 1000  # of a message and all in it; numbers that are packed are one
_MOST_BYTES_OF_A_VARINT = 10

_MODEL_NAME, _MODEL_VERSION, _RAW = 1, 2, 7
_Nested = Mapping[int, "_Nested"]  # of a message: those of its fields that are messages
_ENTRY: _Nested = {2: {}}  # of parameters
_REQUEST: _Nested = {4: _ENTRY, 5: {4: _ENTRY, 5: {}}, 6: {2: _ENTRY}}


class Envelope(NamedTuple):
    """A request without the bytes of its tensors."""

    model: str
    version: str  # or empty
    head: bytes  # the message without raw_input_contents
    raw: list[memoryview]  # which are these


class _Field(NamedTuple):
    number: int
    value: slice | None  # of what is told by its length
    start: int
    end: int


def open_envelope(message: bytes) -> Envelope:
    """Raises MalformedRequest if it is no message, or has more entries than any request."""
    view, names, head, raw = memoryview(message), {_MODEL_NAME: b"", _MODEL_VERSION: b""}, [], []
    left = iter(range(_MOST_FIELDS))
    try:
        for field in _fields(message, 0, len(message), left):
            if field.value and field.number == _RAW:
                raw.append(view[field.value])
                continue
            head.append(view[field.start : field.end])
            if field.value and field.number in names:
                names[field.number] = message[field.value]
            elif field.value and field.number in _REQUEST:
                _count(message, field.value, _REQUEST[field.number], left)
        model, version = (names[number].decode() for number in (_MODEL_NAME, _MODEL_VERSION))
    except (IndexError, UnicodeDecodeError):
        raise not_a_message() from None
    return Envelope(model, version, b"".join(head), raw)


def not_a_message() -> MalformedRequest:
    """The error for bytes that are something else."""
    return MalformedRequest("the message is not a ModelInferRequest", reason="message")


def _count(message: bytes, within: slice, nested: _Nested, left: Iterator[int]) -> None:
    for field in _fields(message, within.start, within.stop, left):
        if field.value and field.number in nested:
            _count(message, field.value, nested[field.number], left)


def _fields(message: bytes, at: int, end: int, left: Iterator[int]) -> Iterator[_Field]:
    """Raises IndexError where it is no message, MalformedRequest once none are `left`."""
    while at < end:
        if next(left, None) is None:
            raise MalformedRequest(f"the message has more than {_MOST_FIELDS} fields", reason="message")
        start = at
        tag, at = _varint(message, at)
        value = None
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(message, at)
                value = slice(at, at + length)
                at += length
            case 5:
                at += 4
            case _:  # groups, which nobody sends
                raise IndexError
        if at > end:
            raise IndexError
        yield _Field(tag >> 3, value, start, at)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """An integer, and where it ends."""
    number = 0
    for shift in range(_MOST_BYTES_OF_A_VARINT):
        byte = message[at + shift]
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, at + shift + 1
    raise IndexError
