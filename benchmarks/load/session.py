"""One target, loaded again and again: prepared queries in, a `Run` out."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from benchmarks.load.arrivals import poisson
from benchmarks.load.connection import Connections
from benchmarks.load.figures import Window, figures
from benchmarks.load.forms import encode
from benchmarks.load.generator import Generator, Query
from benchmarks.load.progress import progress
from benchmarks.load.result import Run, ServedModel
from benchmarks.load.server_side import ServerSide, Snapshot, totals
from benchmarks.load.target import Target
from benchmarks.load.undisturbed import undisturbed

_OUTCOMES_OF_ADMITTED = ("ok", "invalid", "expired", "cancelled", "error")
_CHECKED = 16  # images at most, before the load
_SETTLED = 10.0  # seconds at most: who left may have images in a queue, and a lane may still be replaced


@dataclass(frozen=True)
class Options:
    """What all runs of a command share."""

    images: list[bytes]
    seconds: float = 10.0  # of a run's window
    warmup: float = 2.0  # seconds of the same load before it
    timeout: float = 10.0  # seconds from when a query should have been sent
    objective_ms: float = 500.0  # good answers take no longer
    deadline_ms: float | None = None  # that the server is told
    seed: int = 0
    quiet: bool = False  # no progress


@dataclass
class Session:
    """The target's runs so far, and what the scenarios found."""

    target: Target
    options: Options
    served: ServedModel | None = None
    gemm_peak_gflops: dict[str, float] = field(default_factory=dict)  # by precision
    runs: list[Run] = field(default_factory=list)
    findings: dict[str, float | None] = field(default_factory=dict)

    def queries(self, images_per_query: int = 1) -> list[Query]:
        """One for each image of the set: itself and those that follow it."""
        images = self.options.images
        return [
            self.query([images[(i + j) % len(images)] for j in range(images_per_query)]) for i in range(len(images))
        ]

    def query(self, images: Sequence[bytes], patience: float | None = None) -> Query:
        """In one request, or side by side where the target takes one image at a time."""
        at_once = len(images) if self.target.several and self.target.form != "raw" else 1
        connections = Connections(self.target.url)
        requests = []
        for start in range(0, len(images), at_once):
            headers, body = encode(self.target.form, images[start : start + at_once], self.options.deadline_ms)
            requests.append(connections.request("POST", {**headers, **dict(self.target.headers)}, body))
        return Query(tuple(requests), len(images), patience)

    async def check(self) -> list[bytes]:
        """Ask about each of the first images; the answers.

        Raises ValueError if one is no good: a load of errors would measure nothing.
        """
        connections = Connections(self.target.url)
        try:
            return [await self._checked(connections, self.query([image])) for image in self.options.images[:_CHECKED]]
        finally:
            connections.close()

    async def _checked(self, connections: Connections, query: Query) -> bytes:
        try:
            async with asyncio.timeout(self.options.timeout):
                answer = await connections.ask(query.requests[0])
        except (OSError, TimeoutError) as error:
            raise ValueError(f"{self.target.url}: {str(error) or 'no answer in time'}") from None
        if answer.status != 200:
            body = answer.body[:200].decode(errors="replace")
            raise ValueError(f"{self.target.url} {answer.outcome}: {body}")
        return answer.body

    async def closed(self, scenario: str, repeat: int, clients: int, images_per_query: int = 1) -> Run:
        """Load it by clients who wait for their answers."""
        queries = self.queries(images_per_query)
        shape = {"loop": "closed", "clients": clients, "images_per_query": images_per_query}
        end = self.options.warmup + self.options.seconds

        async def load(generator: Generator) -> None:
            await generator.closed_loop(queries, clients, end)

        return await self._run({"scenario": scenario, "repeat": repeat, **shape}, load, end, f"{clients} clients")

    async def open(
        self,
        scenario: str,
        repeat: int,
        rate: float,
        *,
        seconds: float | None = None,
        queries: Sequence[Query] | None = None,
        enough: Callable[[Generator], bool] = lambda _: False,
        afterwards: Callable[[], Awaitable[None]] | None = None,
    ) -> Run:
        """Load it by `rate` queries a second that arrive by chance; `afterwards` is awaited after the last arrival."""
        queries = queries or self.queries()
        # Each repeat has arrivals of its own; targets that are compared have the same.
        trial = f" {rate}" if scenario == "search" else ""
        arrivals = poisson(queries, rate, f"{self.options.seed} {scenario} {repeat}{trial}")
        end = self.options.warmup + (seconds or self.options.seconds)
        shape = {"loop": "open", "images_per_query": queries[0].images}
        offered = {"offered_images_per_second": rate * queries[0].images}

        async def load(generator: Generator) -> None:
            await generator.open_loop(arrivals, end, lambda: enough(generator))

        head = {"scenario": scenario, "repeat": repeat, **shape, **offered}
        return await self._run(head, load, end, f"{rate:.1f}/s", afterwards)

    async def unsettled_images(self) -> float | None:
        """Those that the server let in and that have no outcome, when it has had ten seconds to finish."""
        server = ServerSide(self.target)
        try:
            end = time.monotonic() + _SETTLED
            while (left := await self._without_outcome(server)) and time.monotonic() < end:
                await asyncio.sleep(0.1)
        finally:
            server.close()
        return left

    async def _without_outcome(self, server: ServerSide) -> float | None:
        now = totals((await server.snapshot()).metrics, self.served)
        if (admitted := now.get("mixer_admitted_images_total")) is None:
            return None
        return admitted - sum(now[outcome] for outcome in _OUTCOMES_OF_ADMITTED)

    async def _run(
        self,
        head: Mapping[str, object],
        load: Callable[[Generator], Awaitable[None]],
        end: float,
        what: str,
        afterwards: Callable[[], Awaitable[None]] | None = None,
    ) -> Run:
        options = self.options
        connections, server = Connections(self.target.url), ServerSide(self.target)
        # Before the load: who cannot be had then is an error, and clients may leave no connection for it.
        await server.snapshot()
        with undisturbed():
            generator = Generator(connections, options.timeout)
            title = f"{self.target.name} {head['scenario']} {what}"
            loading: asyncio.Future[object] = asyncio.ensure_future(load(generator))
            try:
                async with _watched(server), generator.probed(), progress(generator, end, title, options.quiet):
                    before = await _edge(generator, server, loading, options.warmup)
                    after = await _edge(generator, server, loading, end)
                    if afterwards:
                        await afterwards()
                    await loading
            finally:
                loading.cancel()
                connections.close()
                server.close()
                await asyncio.sleep(0)  # the loop comes to close them: the result's files may need the room
        window = Window(before.at, after.at, before.server, after.server, after.cpu - before.cpu, server.memory)
        parts = figures(
            generator, connections.sent_again, window, options.objective_ms / 1000, self.served, self.gemm_peak_gflops
        )
        run = Run.model_validate({"target": self.target.name, **head, **parts})
        self.runs.append(run)
        return run


@dataclass(frozen=True)
class _Edge:
    at: float
    cpu: float
    server: Snapshot


async def _edge(generator: Generator, server: ServerSide, loading: "asyncio.Future[object]", at: float) -> _Edge:
    """Wait for that moment, or for the end of the sending, and look at all clocks."""
    over: asyncio.Future[object] = asyncio.ensure_future(generator.over.wait())
    ends: list[asyncio.Future[object]] = [over, loading]
    await asyncio.wait(ends, timeout=max(0.0, at - generator.clock.now()), return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    if loading.done():
        loading.result()  # raises what ended it
    now, cpu = generator.clock.now(), time.process_time()
    try:
        return _Edge(now, cpu, await server.snapshot())
    except OSError as error:
        return _Edge(now, cpu, Snapshot(failure=str(error)))


@asynccontextmanager
async def _watched(server: ServerSide) -> AsyncIterator[None]:
    watching = asyncio.ensure_future(server.watch_memory())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError, OSError):  # who cannot be watched cannot be read at the edges either
            await watching
