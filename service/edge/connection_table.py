"""The connections of a server: which are idle, and which goes when there are too many."""

import asyncio
import logging
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from prometheus_client import Counter

from service.edge.turns import Turns
from service.edge.uploads import Uploads

log = logging.getLogger(__name__)

_LOOKED_AT = 64  # of those who are idle longest
NEWCOMERS = 16  # beyond the limit, while everybody else is busy: probes are among them
NEWCOMER_SECONDS = 1.0  # that a connection may take for its first request before it counts as idle
_LOG_SECONDS = 10.0  # at most one line in this time says that the table is full


class Connection(Protocol):
    """What the table asks of a connection."""

    def has_unread(self) -> bool:
        """Whether bytes of its client came that nobody has read yet."""

    def give_way(self) -> None:
        """End: nobody is served on it."""


@dataclass(eq=False)
class ConnectionTable:
    """Who is connected, bounded by `limit`; `ended` counts by reason the connections that the service ended."""

    limit: int
    uploads: Uploads
    ended: Counter
    turns: Turns = field(default_factory=Turns)
    _open: set[Connection] = field(default_factory=set)
    _idle: dict[Connection, float] = field(default_factory=dict)  # since when, the longest idle first
    _last_told: float = float("-inf")

    def enter(self, connection: Connection) -> None:
        """Take a new connection in, and let another go if there are too many."""
        self._open.add(connection)
        self._idle[connection] = _now()
        if self.crowded():
            self.make_room()

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: Connection) -> None:
        """A request of it is served; who speaks has precedence over who does not."""
        self._idle.pop(connection, None)
        if self.crowded():
            self.make_room(patience=0)

    def idle(self, connection: Connection) -> None:
        """None is, from now on."""
        if connection in self._open:
            self._idle[connection] = _now()

    def __len__(self) -> int:
        return len(self._open)

    def crowded(self) -> bool:
        """Whether there are more than should be."""
        return len(self._open) > self.limit

    def make_room(self, patience: float = NEWCOMER_SECONDS) -> None:
        """End the connection that is idle longest, or where all are busy the upload that stalls."""
        self._tell_that_it_is_full()
        silent = (each for each in islice(self._idle, _LOOKED_AT) if each not in self.turns and not each.has_unread())
        longest = next(silent, None)
        if longest and (_now() - self._idle[longest] >= patience or len(self) > self.limit + NEWCOMERS):
            self.leave(longest)
            self.ended.labels("idle").inc()
            longest.give_way()
        else:
            self.uploads.end_most_stalled()

    def _tell_that_it_is_full(self) -> None:
        if _now() - self._last_told > _LOG_SECONDS:
            self._last_told = _now()
            counts = {"connections": len(self._open), "idle": len(self._idle)}
            log.warning(
                "%(connections)d connections are open, %(idle)d idle: the longest idle go first (ulimit -n)",
                counts,
                extra=counts,
            )


def _now() -> float:
    return asyncio.get_running_loop().time()
