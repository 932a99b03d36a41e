"""Whether a client takes its answer."""

import asyncio
from collections.abc import Callable

WRITE_SECONDS = 10.0  # in which a client takes some of its answer,
WRITE_BYTES = 4 * 2**10  # this much, if that is not the rest


class WriteWatch:
    """Between `start` and `stop` bytes are unsent."""

    def __init__(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(0)  # so that the protocol hears at once of what is unsent
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def start(self, give_up: Callable[[], None]) -> None:
        """The client does not take its answer as fast as it is written; `give_up` is called once it takes too few."""
        self.stop()
        left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._look, left, give_up)

    def stop(self) -> None:
        """It has all of it, or has gone."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self, left: int, give_up: Callable[[], None]) -> None:
        if left - self._transport.get_write_buffer_size() < WRITE_BYTES:
            give_up()
        else:
            self.start(give_up)
