"""Whether a client takes its answer."""

import asyncio
from collections.abc import Callable

WRITE_SECONDS = 10.0  # in which a client takes some of its answer,
WRITE_BYTES = 4 * 2**10  # this much, if that is not the rest


class WriteWatch:
    """Between `start` and `stop` bytes are unsent; calls `give_up` once the client takes too few of them."""

    def __init__(self, transport: asyncio.Transport, give_up: Callable[[], None]) -> None:
        transport.set_write_buffer_limits(0)  # so that the protocol hears at once of what is unsent
        self._transport = transport
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The client does not take its answer as fast as it is written."""
        self.stop()
        left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._look, left)

    def stop(self) -> None:
        """It has all of it, or has gone."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self, left: int) -> None:
        if left - self._transport.get_write_buffer_size() < WRITE_BYTES:
            self._give_up()
        else:
            self.start()
