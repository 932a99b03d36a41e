"""Decoding and passes taking turns on the same cores, where a core of its own for each would leave one idle."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import EngineFailure

_HANGS = "the engine does not come back from a pass"


class Turns:
    """Either images are decoded, any number side by side, or a pass runs. Used on one event loop.

    A pass that waits lets at most `images` be decoded before it, so that neither keeps the other out.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self._decoding = 0
        self._decoded = 0  # since the last pass
        self._passing = False
        self._given_up = False
        self._decoders: deque[asyncio.Future[None]] = deque()
        self._passes: deque[asyncio.Future[None]] = deque()

    async def begin_decoding(self) -> None:
        """Wait for a turn to decode one image; `end_decoding` ends it.

        Raises EngineFailure if the pass that is waited for does not come back.
        """
        if self._given_up:
            raise EngineFailure(_HANGS)
        await self._wait(self._decoders)

    def end_decoding(self) -> None:
        """One image is decoded."""
        self._decoding -= 1
        self._next()

    def give_up(self) -> None:
        """Nobody waits any longer for the pass that runs; until it is back, nobody need come."""
        self._given_up = True
        while self._decoders:
            place = self._decoders.popleft()
            if not place.done():
                place.set_exception(EngineFailure(_HANGS))

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """For the time of a pass."""
        await self._wait(self._passes)
        try:
            yield
        finally:
            self._passing = self._given_up = False
            self._next()

    async def _wait(self, line: deque[asyncio.Future[None]]) -> None:
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        self._next()
        if place.done():
            return
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # its turn had come already: give it back
                if line is self._decoders:
                    self._decoding -= 1
                else:
                    self._passing = False
            self._next()
            raise

    def _next(self) -> None:
        """Give whoever is next their turn."""
        while self._decoders and self._decoders[0].done():
            self._decoders.popleft()
        while self._passes and self._passes[0].done():
            self._passes.popleft()
        while self._decoders and not self._passing and (not self._passes or self._decoded < self.images):
            decoder = self._decoders.popleft()
            if not decoder.done():
                self._decoding += 1
                self._decoded += 1
                decoder.set_result(None)
        if self._passes and not self._passing and not self._decoding:
            self._passing, self._decoded = True, 0
            self._passes.popleft().set_result(None)
