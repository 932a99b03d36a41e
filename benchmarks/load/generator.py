"""The two ways to load a server: by clients who wait for their answers, and by arrivals that wait for nobody."""

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.load.connection import Connections
from benchmarks.load.samples import OK, Sample, Samples

# The generator can open no more connections: of files, or of ports.
OUT_OF_ROOM = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL)
_PROBE = 0.01  # seconds between looks
_AFTER_A_FAILURE = 0.01  # seconds that a client of a closed loop rests: who is refused does not come back at once


@dataclass(frozen=True)
class Query:
    """What is asked at once: one request, or several side by side."""

    requests: tuple[bytes, ...]
    images: int = 1
    patience: float | None = None  # seconds after which this client hangs up


class Clock:
    """Seconds since the run began."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def now(self) -> float:
        """Read it."""
        return time.perf_counter() - self._start


class Generator:
    """Sends queries to one server and notes what becomes of each."""

    def __init__(self, connections: Connections, timeout: float) -> None:
        self.samples = Samples()
        self.unanswered: set[float] = set()  # when each query on its way should have been sent
        self.queries_are_due = False  # in an open loop; in a closed one they go out when clients come to it
        self.held = Samples()  # when a timer should have gone off, and when it did
        self.over = asyncio.Event()  # nothing more is sent
        self.clock = Clock()
        self._connections = connections
        self._timeout = timeout

    async def closed_loop(self, queries: Sequence[Query], clients: int, seconds: float) -> None:
        """Each client sends a query once the one before is answered, until `seconds` are over."""
        numbers = iter(range(2**62))

        async def client() -> None:
            while (now := self.clock.now()) < seconds:
                sample = await self.send(queries[next(numbers) % len(queries)], now)
                if sample.code != OK:
                    await asyncio.sleep(_AFTER_A_FAILURE)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())

    @asynccontextmanager
    async def probed(self) -> AsyncIterator[None]:
        """Look ever again by how much the generator itself is late: a closed loop's queries cannot show it."""
        probing = asyncio.ensure_future(self._probe())
        try:
            yield
        finally:
            probing.cancel()

    async def _probe(self) -> None:
        while True:
            intended = self.clock.now() + _PROBE
            await asyncio.sleep(_PROBE)
            now = self.clock.now()
            self.held.all.append(Sample(intended, now, now, OK, 0))

    async def open_loop(
        self, arrivals: Iterator[tuple[float, Query]], seconds: float, enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Queries go out when their time comes, whatever became of others, until `seconds` are over or it is `enough`.

        One whose time has passed is sent at once, never left out; but nothing more is sent once the generator is late
        by a timeout. Returns when all are answered or timed out.
        """
        self.queries_are_due = True
        loop = asyncio.get_running_loop()
        stopped = threading.Event()
        async with asyncio.TaskGroup() as group:

            def start(query: Query, intended: float) -> None:
                group.create_task(self.send(query, intended))

            def pace() -> None:
                for at, query in arrivals:
                    if at >= seconds or enough() or self.clock.now() - at > self._timeout:
                        return
                    if stopped.wait(max(0.0, at - self.clock.now())):
                        return
                    loop.call_soon_threadsafe(start, query, at)

            try:
                # A thread sleeps to some 0.1 ms, an event loop's timers to 1 ms.
                await asyncio.to_thread(pace)
            finally:
                stopped.set()
                self.over.set()

    async def send(self, query: Query, intended: float) -> Sample:
        """Send one now, and note what became of it."""
        sent = self.clock.now()
        self.unanswered.add(intended)
        codes = await asyncio.gather(*(self._ask(request, intended, query.patience) for request in query.requests))
        code = next((code for code in codes if code != OK), OK)
        self.unanswered.discard(intended)
        sample = Sample(intended, sent, self.clock.now(), code, query.images)
        self.samples.all.append(sample)
        return sample

    async def _ask(self, request: bytes, intended: float, patience: float | None) -> str:
        left = intended + self._timeout - self.clock.now()
        try:
            async with asyncio.timeout(max(0.0, left if patience is None else patience)):
                answer = await self._connections.ask(request)
        except TimeoutError:
            return "timeout" if patience is None else "left"
        except OSError as error:
            return errno.errorcode[error.errno] if error.errno in OUT_OF_ROOM else type(error).__name__
        return str(answer.status)
