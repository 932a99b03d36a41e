"""API keys: accepted when the sha256 of the presented key stands in the operator's file."""

import hashlib
import hmac
import re
from pathlib import Path

from starlette.datastructures import Headers

from service.errors import Unauthorized


class ApiKeys:
    """The set of accepted keys; an empty one accepts everybody."""

    def __init__(self, file: Path | None) -> None:
        """Read sha256 hex digests, one a line; blank lines and lines starting with # are skipped.

        Raises OSError if the file cannot be read, ValueError if a line is no digest or there is none.
        """
        self._digests: list[str] = []
        if file is None:
            return
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            digest = line.strip().lower()
            if not digest or digest.startswith("#"):
                continue
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"{file}:{number}: not a sha256 hex digest")
            self._digests.append(digest)
        if not self._digests:
            raise ValueError(f"{file}: holds no key, so nobody could be served")

    def check(self, headers: Headers) -> None:
        """Raise Unauthorized unless `X-Api-Key` or `Authorization: Bearer` carries an accepted key."""
        if not self._digests:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        presented = hashlib.sha256(key.encode()).hexdigest()
        # Every digest is compared, in constant time, so that timing tells nothing about the file.
        matches = [hmac.compare_digest(presented, digest) for digest in self._digests]
        if not any(matches):
            raise Unauthorized("an accepted API key is needed in X-Api-Key or Authorization: Bearer")
