"""The id of a request, which its answer and its log lines carry."""

import random
import re

from starlette.types import Scope

_HARMLESS = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id_of(scope: Scope) -> str:
    """The client's own id if it is harmless, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _HARMLESS.fullmatch(given) else f"{random.getrandbits(128):032x}"
