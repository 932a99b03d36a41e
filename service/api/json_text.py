"""JSON that a client sent, with a bound on what it may grow to."""

import codecs
import gc
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from service.errors import MalformedRequest


def parse_json(text: bytes, most: Mapping[bytes, int], instead: str) -> Any:
    """What the text says; of each mark in `most`, such as `{`, it has so many and no more.

    Parsing holds the interpreter, and an object of two bytes takes a hundred in memory. `instead` tells who sends more
    what to send.

    Raises MalformedRequest.
    """
    if any(text.count(mark) > count for mark, count in most.items()):
        raise MalformedRequest(f"the JSON has more parts than a request needs; {instead}", reason="json")
    # Every list of a tensor stays alive: the collector would look through them again and again, and hold others up.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return from_json(text.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False, cache_strings=False)
    except ValueError as error:
        why = "it is gzip data without Content-Encoding" if text.startswith(b"\x1f\x8b") else str(error)
        raise MalformedRequest(f"the body is not JSON ({why}); {instead}", reason="json") from None
    finally:
        if collecting:
            gc.enable()
