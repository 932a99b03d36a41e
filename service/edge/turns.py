"""Connections read in turns, so that between two of them the event loop looks at everything else."""

import asyncio
import logging
import time
from typing import Protocol

log = logging.getLogger(__name__)

TURN_SECONDS = 0.004
WAITING_MOST_BYTES = 16 * 2**20  # of all that waits together, which is charged to nobody yet


class Reader(Protocol):
    """What a turn asks of a connection."""

    def read_on(self, since: float | None = None) -> None:
        """Serve what has come, `since` when (of `time.monotonic`); None: now."""

    def abort(self) -> None:
        """End it."""


class Turns:
    """Under a flood hundreds of connections are readable at once. Served in one go, they would keep the lanes' answers
    waiting, and so the lanes idle: the loop hears of an answer only between two turns.
    """

    def __init__(self) -> None:
        self._waiting: dict[Reader, tuple[float, int]] = {}  # who came first is first; since when, with how many bytes
        self._bytes = 0
        self._until = 0.0  # when this turn is over
        self._begun = False

    def __contains__(self, reader: object) -> bool:
        """Whether it waits for its turn."""
        return reader in self._waiting

    def take(self, reader: Reader, size: int) -> None:
        """Let it read the `size` bytes that have come, at once, or where this turn is over once its own one comes."""
        if not self._begun:
            self._begin()
        now = time.monotonic()
        over = self._waiting or now > self._until
        if over and self._bytes + size <= WAITING_MOST_BYTES:
            since, before = self._waiting.get(reader, (now, 0))
            self._waiting[reader] = since, before + size
            self._bytes += size
        else:
            reader.read_on(self.leave(reader) or now)

    def leave(self, reader: Reader) -> float | None:
        """It waits no more; since when it has, or None if it did not."""
        if reader not in self._waiting:
            return None
        since, size = self._waiting.pop(reader)
        self._bytes -= size
        return since

    def _begin(self) -> None:
        self._begun, self._until = True, time.monotonic() + TURN_SECONDS
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._begun = False
        if not self._waiting:
            return
        self._begin()
        while self._waiting and time.monotonic() <= self._until:
            reader = next(iter(self._waiting))
            since = self.leave(reader)
            try:
                reader.read_on(since)
            except Exception:  # a fault of ours; the loop would close the connection, too
                log.exception("a connection failed")
                reader.abort()
