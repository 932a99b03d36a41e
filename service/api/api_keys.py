"""API keys: who may ask, by the sha256 of the key presented, and how often."""

import hashlib
import logging
import math
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import RateLimited, Unauthorized
from service.metrics import Metrics

log = logging.getLogger(__name__)

_LOOK_EVERY = 1.0  # seconds between looks at the file
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STANDARD_INPUT = "-"  # as sha256sum names it
_PRINTED = re.compile(r"\\?([0-9a-fA-F]{64}) [ *]([^=]+)")  # by sha256sum: a digest and the file that it is of
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
        lines and lines that begin with # are skipped, and lines are taken as `sha256sum` prints them. A thread looks at
        the file once a second and reads it again when it changes; if it is then unusable, the keys stay as they were
        and an error is logged.

        Raises ValueError, which names the `setting`, if the file cannot be read, holds a line that is no key, or none.
        """
        self._file = file
        self._setting = setting
        self._metrics = metrics
        self._now = now
        # By digest. How long a look-up takes may tell of digests, and nothing of keys: whoever tries keys cannot choose
        # what their digests begin with, nor find a key for a digest.
        self._keys: dict[str, _Key] = {}
        self._looking = threading.Lock()
        if file:
            self._seen = _stamp(file)
            self._take(_read(file, setting, now()))
            threading.Thread(target=_follow, args=(weakref.ref(self),), name="keys", daemon=True).start()

    def check(self, scope: Scope) -> None:
        """Let a request pass whose `X-Api-Key` or `Authorization: Bearer` is an accepted key, within its rate.

        Raises Unauthorized, or RateLimited with the time to retry.
        """
        if not self._file:
            return
        now = self._now()
        key = self._find(scope)
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

    def know(self, scope: Scope) -> bool:
        """Whether a request presents an accepted key, or needs none; its rate is left as it is."""
        return not self._file or self._find(scope) is not None

    def _find(self, scope: Scope) -> "_Key | None":
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        presented = headers.get("x-api-key") or (token.strip(" ") if scheme.lower() == "bearer" else "")
        # Back to the bytes that came, which Starlette shows as Latin-1: keys may be in any script.
        return self._keys.get(hashlib.sha256(presented.encode("latin-1")).hexdigest())

    def look(self) -> None:
        """Read the file again if it is another one now: edited, replaced, or a link that leads elsewhere."""
        if not self._file:
            return
        with self._looking:
            stamp = _stamp(self._file)
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._take(_read(self._file, self._setting, self._now()))
            except ValueError as error:
                log.error("the keys stay as they were: %s", error)
            else:
                log.info("%s: read %d keys again", self._setting, len(self._keys))

    def _take(self, keys: "dict[str, _Key]") -> None:
        for digest, key in keys.items():
            if before := self._keys.get(digest):
                key.spent_like(before)
        self._keys = keys
        self._metrics.show_keys(self._setting, {key.name for key in keys.values()})


def _follow(keys: "weakref.ref[ApiKeys]") -> None:
    """Look at the file again and again, for as long as somebody asks for its keys."""
    while True:
        time.sleep(_LOOK_EVERY)
        followed = keys()
        if followed is None:
            return
        try:
            followed.look()
        except Exception:  # the next look may go well
            log.exception("the file of keys could not be looked at")
        del followed


class _Key:
    """One accepted key, and the token bucket of its rate: full at first, refilled `rate` times a second."""

    def __init__(self, name: str, rate: float, burst: float, now: float) -> None:
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


def _read(file: Path, setting: str, now: float) -> dict[str, _Key]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{setting} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{setting} {file}: not a text in UTF-8") from None
    unnamed = "admin-key" if "ADMIN" in setting else "key"
    keys: dict[str, _Key] = {}
    names: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            digest, key = _parse(line, f"{unnamed}-{len(keys) + 1}", names, now)
            if digest in keys or key.name in names:
                raise ValueError("this key or its name is there already")
        except ValueError as error:
            raise ValueError(f"{setting} {file}:{number}: {error}") from None
        keys[digest] = key
        names.add(key.name)
    if not keys:
        raise ValueError(f"{setting} {file}: holds no key, so nobody could be served")
    return keys


def _parse(line: str, unnamed: str, taken: Collection[str], now: float) -> tuple[str, _Key]:
    """A line's digest and key. Messages never quote the line: it may hold a key that somebody forgot to hash."""
    if printed := _PRINTED.fullmatch(line.strip()):
        return printed[1].lower(), _Key(_legal(printed[2], unnamed, taken), math.inf, math.inf, now)
    digest, *rest = line.split()
    digest = digest.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("not a sha256 hex digest")
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    names = [word for word in rest if "=" not in word]
    if len(names) > 1 or options.keys() not in ({"rate", "burst"}, {"rate"}, set()):
        raise ValueError("after the digest come at most a name, rate=N, and with a rate burst=N")
    name = names[0] if names and names[0] != _STANDARD_INPUT else unnamed
    if not _NAME.fullmatch(name) or name == _UNKNOWN:
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes or underscores")
    rate = _positive(options.get("rate", "inf"), "rate")
    burst = max(1.0, _positive(options["burst"], "burst")) if "burst" in options else rate
    return digest, _Key(name, rate, burst, now)


def _legal(file: str, unnamed: str, taken: Collection[str]) -> str:
    """A name for the key that was hashed from a file: the file's, as far as it can be one and is not there yet."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file).strip("-")
    if not name or name == _UNKNOWN:
        return unnamed
    number = unnamed.rpartition("-")[2]
    return f"{name[-50:]}-{number}" if name[-64:] in taken else name[-64:]


def _positive(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise ValueError(f"{what} is not a number above 0")
    return number
