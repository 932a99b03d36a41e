"""Connections read in turns, so that between two of them the event loop looks at everything else."""

import asyncio
import time
from typing import Protocol

TURN_SECONDS = 0.004


class Reader(Protocol):
    """What a turn asks of a connection."""

    def read_on(self) -> None:
        """Serve what has come."""


class Turns:
    """Under a flood hundreds of connections are readable at once. Served in one go, they would keep the lanes' answers
    waiting, and so the lanes idle: the loop hears of an answer only between two turns.
    """

    def __init__(self) -> None:
        self._waiting: dict[Reader, None] = {}  # who came first is first
        self._until = 0.0  # when this turn is over
        self._begun = False

    def __contains__(self, reader: Reader) -> bool:
        """Whether it waits for its turn."""
        return reader in self._waiting

    def take(self, reader: Reader) -> None:
        """Let it read at once, or where this turn is over once its own one comes."""
        if not self._begun:
            self._begin()
        if self._waiting or time.monotonic() > self._until:
            self._waiting[reader] = None
        else:
            reader.read_on()

    def leave(self, reader: Reader) -> bool:
        """It waits no more; whether it did."""
        return reader in self._waiting and self._waiting.pop(reader) is None

    def _begin(self) -> None:
        self._begun, self._until = True, time.monotonic() + TURN_SECONDS
        asyncio.get_running_loop().call_soon(self._next)  # all else that is ready comes before it

    def _next(self) -> None:
        self._begun = False
        if not self._waiting:
            return
        self._begin()
        while self._waiting and time.monotonic() <= self._until:
            reader = next(iter(self._waiting))
            del self._waiting[reader]
            reader.read_on()
