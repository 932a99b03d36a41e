"""A tensor's numbers in JSON, read a piece at a time: all at once, millions of them hold the interpreter too long."""

import math
import re
from collections.abc import Iterator

from pydantic_core import from_json

_PIECE = 2**17  # bytes; about a millisecond
_MOST_TRIES = 8  # keys and values called data
_BLANKS = b" \t\r\n"
_IN_A_NUMBER = b"0123456789+-.eE"
_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
_NUMBERS = re.compile(rb"[\[\], \t\r\n0-9+.eE-]*")
_BRACKETS = bytes.maketrans(b"[]", b"  ")
# A number behind a list's end, or before its beginning; searched for by the bracket, which is fast.
_MISPLACED = (re.compile(rb"\][^\[\],]"), re.compile(rb"\[(?<=[^\[\],]\[)"))


class MisshapenError(ValueError):
    """The lists are other ones than the shape asks for."""


class NumberList:
    """A list of numbers, or of lists of them, as the text that it came as."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def small_integers(self, shape: tuple[int, ...]) -> bytes:
        """The elements in row-major order, if all are integers from 0 to 255, flat or nested as the shape says.

        There may be more or fewer than the shape needs if the list is flat. Raises MisshapenError, or TypeError,
        ValueError or OverflowError for other elements.
        """
        compact = b"".join(piece.translate(None, _BLANKS) for piece in _pieces(self._text))
        if compact == b"[]":
            return b""
        brackets = b"".join(piece.translate(None, _IN_A_NUMBER) for piece in _pieces(compact))
        if brackets != b"[" + b"," * (len(brackets) - 2) + b"]":
            _check_nesting(compact, brackets, shape)
        elements, at = [], 0
        while at < len(self._text):
            comma = self._text.find(b",", at + _PIECE)
            end = len(self._text) if comma == -1 else comma
            numbers = from_json(b"[" + self._text[at:end].translate(_BRACKETS) + b"]", allow_inf_nan=False)
            if not numbers:  # a comma with nothing behind it
                raise MisshapenError
            elements.append(bytes(numbers))
            at = end + 1
        return b"".join(elements)


def _check_nesting(compact: bytes, brackets: bytes, shape: tuple[int, ...]) -> None:
    if brackets.count(b",") != math.prod(shape) - 1 or brackets != _nested(shape):  # which may be megabytes
        raise MisshapenError
    for start in range(0, len(compact), _PIECE):
        if any(misplaced.search(compact, start, start + _PIECE + 1) for misplaced in _MISPLACED):
            raise MisshapenError


def cut_out(text: bytes, instead: bytes) -> tuple[bytes, NumberList | None]:
    """JSON with `instead` for its first `data` that is a list of numbers, and that list; or `text` itself, and None."""
    at = -1
    for _ in range(_MOST_TRIES):
        at = text.find(b'"data"', at + 1)
        if at == -1:
            break
        key = _DATA.match(text, at)
        if not key or text[at - 1 : at] == b"\\":  # a value, or the end of another key
            continue
        numbers = text[key.end() : _end_of_numbers(text, key.end())].rstrip(_BLANKS + b",")
        if numbers.endswith(b"]") and numbers.count(b"[") == numbers.count(b"]"):
            return text[: key.end()] + instead + text[key.end() + len(numbers) :], NumberList(numbers)
    return text, None


def _end_of_numbers(text: bytes, start: int) -> int:
    """Where something comes that no list of numbers has."""
    while run := _NUMBERS.match(text, start, start + _PIECE):
        start = run.end()
        if len(run[0]) < _PIECE:
            break
    return start


def _pieces(text: bytes) -> Iterator[bytes]:
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _nested(shape: tuple[int, ...]) -> bytes:
    """What is left of the lists that a shape asks for without their numbers."""
    text = b""
    for size in reversed(shape):
        text = b"[" + b",".join([text] * size) + b"]"
    return text
