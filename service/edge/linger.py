"""The time after an early answer in which what the client still sends is thrown away.

Closing a connection with bytes unread resets it, and the answer is lost (RFC 9112, section 9.6).
"""

import asyncio
from collections.abc import Callable

LINGER_SECONDS = 10.0
LINGER_BYTES = 64 * 2**20
LAST_SECONDS = 1.0  # while the server stops


class Linger:
    """Calls `close` when time or bytes are used up."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = 0

    @property
    def active(self) -> bool:
        """Whether it has begun, and not ended."""
        return self._timer is not None

    def begin(self) -> None:
        """The answer is written."""
        self._bytes = LINGER_BYTES
        self._end_after(LINGER_SECONDS)

    def hasten(self) -> None:
        """The server stops."""
        self._end_after(LAST_SECONDS)

    def spend(self, count: int) -> None:
        """This many bytes came meanwhile."""
        self._bytes -= count
        if self._bytes < 0:
            self._close()

    def end(self) -> None:
        """Nothing is left to wait for."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _end_after(self, seconds: float) -> None:
        self.end()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._close)
