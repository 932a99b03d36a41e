"""The loads that are compared: each as ours, and as the other generator has it."""

from collections.abc import Coroutine
from typing import Any

import uvloop

from benchmarks.cross_check import perf_analyzer
from benchmarks.cross_check.comparison import Comparison, Figures
from benchmarks.cross_check.perf_analyzer import PerfAnalyzer
from benchmarks.load.result import Run
from benchmarks.load.session import Session

_MANY = 32  # clients


def rate_of_many(session: Session) -> float:
    """Images a second of 32 clients: as many as the other generators have. Raises ValueError if there is none."""
    run = uvloop.run(session.closed("capacity", 0, _MANY))
    if not run.images_per_second:
        raise ValueError(f"{session.target.url}: {_MANY} clients got no good answer, but {run.codes}")
    return run.images_per_second


def beside_loadgen(session: Session, rate: float, expected_rate: float) -> list[Comparison]:
    """SingleStream, Offline and Server; `expected_rate` is what many clients get.

    Raises ImportError where LoadGen is not installed.
    """
    from benchmarks.cross_check import loadgen  # noqa: PLC0415 - not built for every platform

    url, images, seconds = session.target.url, session.options.images, session.options.seconds
    return [
        Comparison(
            "one client",
            "LoadGen SingleStream",
            lambda number: _ours(session.closed("single-stream", number, 1)),
            lambda _: loadgen.single_stream(url, images, seconds),
        ),
        Comparison(
            f"{_MANY} clients",
            "LoadGen Offline",
            lambda number: _ours(session.closed("offline", number, _MANY)),
            lambda _: loadgen.offline(url, images, seconds, _MANY, expected_rate),
        ),
        Comparison(
            f"{rate:g}/s by chance",
            "LoadGen Server",
            lambda number: _ours(session.open("server", number, rate)),
            lambda number: loadgen.server(url, images, seconds, _MANY, rate, seed=number),
        ),
    ]


def beside_perf_analyzer(session: Session, model: str, rate: float, program: PerfAnalyzer) -> list[Comparison]:
    """Its concurrencies 1 and 8, and its request rate with Poisson's distribution; `session` has the v2 form."""

    def theirs(load: perf_analyzer.Load) -> Figures:
        options = session.options
        return perf_analyzer.measure(program, session.target.url, model, options.images, options.seconds, load)

    return [
        Comparison(
            "one client, v2",
            "perf_analyzer",
            lambda number: _ours(session.closed("single-stream", number, 1)),
            lambda _: theirs(perf_analyzer.closed(1)),
        ),
        Comparison(
            "8 clients, v2",
            "perf_analyzer",
            lambda number: _ours(session.closed("offline", number, 8)),
            lambda _: theirs(perf_analyzer.closed(8)),
        ),
        Comparison(
            f"{rate:g}/s by chance, v2",
            "perf_analyzer",
            lambda number: _ours(session.open("server", number, rate)),
            lambda _: theirs(perf_analyzer.poisson(rate)),
        ),
    ]


def _ours(running: Coroutine[Any, Any, Run]) -> Figures:
    run = uvloop.run(running)
    return Figures(run.images_per_second, run.latency.p50, run.latency.p90, run.latency.p99)
