"""API keys: who may ask, by the sha256 of the key presented, and how often."""

import hashlib
import hmac
import logging
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers

from service.errors import RateLimited, Unauthorized
from service.metrics import Metrics

log = logging.getLogger(__name__)

_LOOK_EVERY = 1.0  # seconds between looks at the file
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNKNOWN = "unknown"  # the metrics' name of whoever has no accepted key


class ApiKeys:
    """The accepted keys, kept in step with the operator's file; without a file everybody is let in."""

    def __init__(
        self,
        file: Path | None,
        metrics: Metrics,
        setting: str = "MIXER_API_KEYS_FILE",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file: a key a line, as the hex sha256 of its bytes, optionally with a name, a rate and a burst.

            9f86d081884c7d65...  mobile-app  rate=50  burst=100

        `rate` is in requests a second, `burst` how many may come at once (a second's worth unless it is given). Blank
        lines and lines that begin with # are skipped. The file is read again when it changes; if it is then unusable,
        the keys stay as they were and an error is logged.

        Raises ValueError, which names the `setting`, if the file cannot be read, holds a line that is no key, or none.
        """
        self._file = file
        self._setting = setting
        self._metrics = metrics
        self._now = now
        self._keys: list[_Key] = []
        if file:
            self._look_again_at = now() + _LOOK_EVERY
            self._seen = _stamp(file)
            self._take(_read(file, setting, now()))

    def check(self, headers: Headers) -> None:
        """Let a request pass whose `X-Api-Key` or `Authorization: Bearer` is an accepted key, within its rate.

        Raises Unauthorized, or RateLimited with the time to retry.
        """
        if not self._file:
            return
        now = self._now()
        if now >= self._look_again_at:
            self._look_again_at = now + _LOOK_EVERY
            self._follow(self._file)
        key = self._find(headers)
        if key is None:
            self._metrics.key_requests.labels(_UNKNOWN, "unauthorized").inc()
            raise Unauthorized("an accepted API key is needed in X-Api-Key or Authorization: Bearer")
        wait = key.take(now)
        if wait:
            self._metrics.key_requests.labels(key.name, "rate_limited").inc()
            raise RateLimited(
                f"the API key {key.name} may ask {key.rate:g} times a second",
                reason="rate_limit",
                retry_after=max(1, math.ceil(wait)),
            )
        self._metrics.key_requests.labels(key.name, "ok").inc()

    def _find(self, headers: Headers) -> "_Key | None":
        scheme, _, token = headers.get("authorization", "").partition(" ")
        presented = headers.get("x-api-key") or (token.strip(" ") if scheme.lower() == "bearer" else "")
        # Back to the bytes that came, which Starlette shows as Latin-1: keys may be in any script.
        digest = hashlib.sha256(presented.encode("latin-1")).hexdigest()
        # Every digest is compared, in constant time, so that timing tells nothing about the file.
        matches = [key for key in self._keys if hmac.compare_digest(digest, key.digest)]
        return matches[0] if matches else None

    def _follow(self, file: Path) -> None:
        """Read the file again if it is another one now: edited, replaced, or a link that leads elsewhere."""
        stamp = _stamp(file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._take(_read(file, self._setting, self._now()))
        except ValueError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("%s: read %d keys again", self._setting, len(self._keys))

    def _take(self, keys: "list[_Key]") -> None:
        before = {key.digest: key for key in self._keys}
        for key in keys:
            if key.digest in before:
                key.spent_like(before[key.digest])
            self._metrics.add_key(key.name)
        self._keys = keys


class _Key:
    """One accepted key, and the token bucket of its rate: full at first, refilled `rate` times a second."""

    def __init__(self, digest: str, name: str, rate: float, burst: float, now: float) -> None:
        self.digest = digest
        self.name = name
        self.rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one token and return 0, or return the seconds until there is one."""
        if math.isinf(self.rate):
            return 0.0
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0.0

    def spent_like(self, other: "_Key") -> None:
        """Begin with what `other`, the same key before a change of the file, had left."""
        self._tokens = min(self._burst, other._tokens)
        self._at = other._at


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What changes with the file; a Kubernetes secret is a link, whose target is replaced."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _read(file: Path, setting: str, now: float) -> list[_Key]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{setting} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{setting} {file}: not a text in UTF-8") from None
    unnamed = "admin-key" if "ADMIN" in setting else "key"
    keys: list[_Key] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _parse(line, f"{unnamed}-{len(keys) + 1}", now)
            if any(key.digest == other.digest or key.name == other.name for other in keys):
                raise ValueError("this key or its name is there already")
        except ValueError as error:
            raise ValueError(f"{setting} {file}:{number}: {error}") from None
        keys.append(key)
    if not keys:
        raise ValueError(f"{setting} {file}: holds no key, so nobody could be served")
    return keys


def _parse(line: str, name: str, now: float) -> _Key:
    """Messages never quote the line: it may hold a key that somebody forgot to hash."""
    digest, *rest = line.split()
    digest = digest.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("not a sha256 hex digest")
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    names = [word for word in rest if "=" not in word]
    if len(names) > 1 or options.keys() not in ({"rate", "burst"}, {"rate"}, set()):
        raise ValueError("after the digest come at most a name, rate=N, and with a rate burst=N")
    name = names[0] if names else name
    if not _NAME.fullmatch(name) or name == _UNKNOWN:
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes or underscores")
    rate = _positive(options.get("rate", "inf"), "rate")
    return _Key(digest, name, rate, max(1.0, _positive(options["burst"], "burst") if "burst" in options else rate), now)


def _positive(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise ValueError(f"{what} is not a number above 0")
    return number
