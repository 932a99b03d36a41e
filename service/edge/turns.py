"""Connections read in turns, so that between two of them the event loop looks at everything else."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

TURN_SECONDS = 0.004
TASKS_AT_ONCE = 8  # that are begun in a turn: each takes about half a millisecond of the event loop
LARGE_SECONDS = 0.001  # beyond it, for those who brought much
LARGE_BYTES = 16 * 2**10  # many times a request for a small image
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

    Who came first is first, but those who have brought much are behind all others; they have a little of every turn. In
    every turn a few requests' tasks are begun.
    """

    def __init__(self) -> None:
        self._small: dict[Reader, tuple[float, int]] = {}  # since when, with how many bytes
        self._large: dict[Reader, tuple[float, int]] = {}
        self._bytes = 0
        self._tasks: deque[Callable[[], None]] = deque()  # of requests, that are to be begun
        self._tasks_left = 0  # that may be begun in this turn
        self._until = 0.0  # when this turn is over
        self._begun = False

    def __contains__(self, reader: object) -> bool:
        """Whether it waits for its turn."""
        return reader in self._small or reader in self._large

    def take(self, reader: Reader, size: int) -> None:
        """Let it read the `size` bytes that have come, at once, or where this turn is over once its own one comes."""
        if not self._begun:
            self._begin()
        now = time.monotonic()
        if not (self._small or self._large or now > self._until):
            reader.read_on(now)
            return
        queue = self._large if reader in self._large else self._small
        since, before = queue.get(reader, (now, 0))
        if before + size > LARGE_BYTES and queue is self._small:
            queue.pop(reader, None)
            queue = self._large
        queue[reader] = since, before + size  # in its place, if it has one
        self._bytes += size
        while self._bytes > WAITING_MOST_BYTES:
            self._read_first(self._large or self._small)

    def leave(self, reader: Reader) -> float | None:
        """It waits no more; since when it has, or None if it did not."""
        for queue in (self._small, self._large):
            if waiting := queue.pop(reader, None):
                since, size = waiting
                self._bytes -= size
                return since
        return None

    def begin_task(self, begin: Callable[[], None]) -> None:
        """Begin the task of a request, at once or in the next turn in which not too many others are begun.

        Tasks run one after the other when the turn is over. What needs none is served before them.
        """
        if not self._begun:
            self._begin()
        self._tasks.append(begin)
        self._begin_tasks()

    def _begin(self) -> None:
        self._begun, self._until, self._tasks_left = True, time.monotonic() + TURN_SECONDS, TASKS_AT_ONCE
        asyncio.get_running_loop().call_soon(self._next)

    def _begin_tasks(self) -> None:
        while self._tasks and self._tasks_left:
            self._tasks_left -= 1
            self._tasks.popleft()()

    def _next(self) -> None:
        self._begun = False
        if not (self._small or self._large or self._tasks):
            return
        self._begin()
        self._begin_tasks()
        while self._small and time.monotonic() <= self._until:
            self._read_first(self._small)
        until = time.monotonic() + LARGE_SECONDS
        while self._large and time.monotonic() <= until:
            self._read_first(self._large)

    def _read_first(self, queue: dict[Reader, tuple[float, int]]) -> None:
        reader = next(iter(queue))
        since = self.leave(reader)
        try:
            reader.read_on(since)
        except Exception:  # a fault of ours; the loop would close the connection, too
            log.exception("a connection failed")
            reader.abort()
