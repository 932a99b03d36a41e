"""Whether a client takes JSON, which is all that it can get (RFC 9110, section 12.5.1)."""

import re

from starlette.types import Scope

from service.errors import NotAcceptable

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_RANGE = re.compile(rf"\s*({_WORD})/({_WORD})\s*((?:;[^,]*)?)")
_QUALITY = re.compile(r";\s*q\s*=\s*(\d*\.?\d+)\s*(?:;|$)", re.IGNORECASE)
_LONGEST = 2000  # bytes of a header that are looked through
_JSON = (("application", "json"), ("application", "*"), ("*", "*"))  # the most specific range counts


def check_accept(scope: Scope) -> None:
    """Raise NotAcceptable if the header Accept leaves out application/json.

    None at all, one that cannot be parsed, or one that goes on for kilobytes, leaves out nothing.
    """
    accept = ",".join([value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"])
    if accept in ("", "*/*", "application/json") or len(accept) > _LONGEST:
        return
    qualities: dict[tuple[str, str], float] = {}
    for element in accept.split(","):
        if not element.strip():
            continue
        found = _RANGE.fullmatch(element)
        if not found:
            return
        quality = _QUALITY.search(found[3])
        range_ = (found[1].lower(), found[2].lower())
        qualities[range_] = max(float(quality[1]) if quality else 1.0, qualities.get(range_, 0.0))
    if qualities and next((qualities[range_] for range_ in _JSON if range_ in qualities), 0.0) == 0.0:
        raise NotAcceptable("the answer is application/json, which Accept leaves out")
