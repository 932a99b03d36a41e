"""Runs as the rows that people read: repeats side by side become a median and a spread."""

import statistics
from collections.abc import Callable, Iterable

from benchmarks.load.result import Run
from benchmarks.report import Row

Key = tuple[str, str, str]  # target, scenario, load

_MEANS = ("search", "capacity")  # to find the load of another scenario


def load_of(run: Run) -> str:
    """In words: how many clients, or how many images a second."""
    if run.loop == "closed":
        each = f" of {run.images_per_query}" if run.images_per_query > 1 else ""
        return f"{run.clients} client{'s' if run.clients != 1 else ''}{each}"
    return f"{run.offered_images_per_second:.1f}/s"


def grouped(runs: Iterable[Run]) -> dict[Key, list[Run]]:
    """The repeats of each load, in order of appearance; what was run to find one is left out."""
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        if run.scenario not in _MEANS:
            groups.setdefault((run.target, run.scenario, _shared_load(run)), []).append(run)
    return groups


def _shared_load(run: Run) -> str:
    # Each target has a rate of its own there, and some measure it anew in every repeat.
    return "" if run.scenario in ("server", "overload", "soak") else load_of(run)


def speed_rows(runs: Iterable[Run]) -> list[Row]:
    """A row a load: rates and latencies; medians of its repeats."""
    return [
        {
            **_head(group),
            "img/s": _median(group, lambda run: run.images_per_second),
            "spread %": _spread(group),
            "good img/s": _median(group, lambda run: run.good_images_per_second),
            "p50 ms": _median(group, lambda run: run.latency.p50),
            "p90 ms": _median(group, lambda run: run.latency.p90),
            "p95 ms": _median(group, lambda run: run.latency.p95),
            "p99 ms": _median(group, lambda run: run.latency.p99),
            "p99.9 ms": _median(group, lambda run: run.latency.p99_9),
            "max ms": _median(group, lambda run: run.latency.max),
            "not 200": _failures(group),
            "valid": _valid(group),
        }
        for group in grouped(runs).values()
    ]


def server_rows(runs: Iterable[Run]) -> list[Row]:
    """A row a load: what it cost the server; columns that no run has are left out."""
    rows: list[Row] = [
        {
            **_head(group),
            "mean batch": _median(group, lambda run: run.server.mean_batch, 2),
            "CPU seconds": _median(group, lambda run: run.server.cpu_seconds, 2),
            "img per CPU-second": _median(group, lambda run: run.server.images_per_cpu_second),
            "img/s/core allowed": _median(group, lambda run: run.server.images_per_second_per_core_allowed),
            "img per engine core-second": _median(group, lambda run: run.server.images_per_engine_core_second),
            "front CPU ms an image": _median(group, lambda run: _milliseconds(run.server.front_seconds), 3),
            "front %": _median(group, _front_percent),
            "% of engine alone": _median(group, lambda run: run.server.percent_of_engine_alone),
            "% of GEMM peak": _median(group, lambda run: run.server.percent_of_gemm_peak),
            "peak PSS MiB": _median(group, lambda run: _mebibytes(run.server.peak_memory_bytes)),
            "memory growth %": _median(group, lambda run: _percent(run.server.memory_growth)),
            "lanes restarted": _median(group, lambda run: run.server.lane_restarts, 0),
            "unsettled": _median(group, lambda run: run.server.unsettled_images, 0),
            "429 p99 ms": _median(group, lambda run: run.refused_p99_ms),
            "normal again after s": _median(group, lambda run: run.recovery_seconds, 2),
        }
        for group in grouped(runs).values()
    ]
    head = {"target", "scenario", "load"}
    known = [name for name in (rows[0] if rows else []) if name in head or any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in known} for row in rows] if set(known) - head else []


def generator_rows(runs: Iterable[Run]) -> list[Row]:
    """A row a load: whether the generator kept up, and if not, in which way."""
    return [
        {
            **_head(group),
            "runs": len(group),
            "queries": sum(run.queries for run in group),
            "late by p50 ms": _median(group, lambda run: run.generator.lag_p50_ms, 2),
            "late by p99 ms": _median(group, lambda run: run.generator.lag_p99_ms, 2),
            "late by max ms": _median(group, lambda run: run.generator.lag_max_ms, 2),
            "sent again": sum(run.generator.sent_again for run in group),
            "its CPU %": _median(group, lambda run: _percent(run.generator.cpu_share)),
            "why invalid": "; ".join(dict.fromkeys(reason for run in group for reason in run.invalid)) or None,
        }
        for group in grouped(runs).values()
    ]


def _head(group: list[Run]) -> Row:
    first = group[0]
    offered = _median(group, lambda run: run.offered_images_per_second)
    return {
        "target": first.target,
        "scenario": first.scenario,
        "load": load_of(first) if not offered else f"{offered}/s",
    }


def usable(group: list[Run]) -> list[Run]:
    """The valid repeats; all, if none is, for what they are worth."""
    return [run for run in group if not run.invalid] or group


def _median(group: list[Run], figure: Callable[[Run], float | None], digits: int = 1) -> float | None:
    values = [figure(run) for run in usable(group)]
    known = [value for value in values if value is not None]
    # Medians of different repeats do not belong into one row: a p99 would be less than the p90 beside it.
    return round(statistics.median(known), digits) if len(known) == len(values) else None


def _spread(group: list[Run]) -> float | None:
    rates = [run.images_per_second for run in usable(group)]
    middle = statistics.median(rates)
    return round(100 * (max(rates) - min(rates)) / middle, 1) if middle and len(rates) > 1 else None


def _failures(group: list[Run]) -> dict[str, int] | str:
    failures: dict[str, int] = {}
    for run in group:
        for code, count in run.codes.items():
            if code != "200":
                failures[code] = failures.get(code, 0) + count
    return failures or "none"


def _valid(group: list[Run]) -> str:
    valid = sum(not run.invalid for run in group)
    return "yes" if valid == len(group) else f"INVALID ({len(group) - valid} of {len(group)})"


def _mebibytes(size: float | None) -> float | None:
    return size / 2**20 if size is not None else None


def _milliseconds(seconds: float | None) -> float | None:
    return 1000 * seconds if seconds is not None else None


def _front_percent(run: Run) -> float | None:
    """Of the one core that the front can take."""
    return _percent(run.server.front_seconds and run.server.front_seconds * run.images_per_second)


def _percent(share: float | None) -> float | None:
    return 100 * share if share is not None else None
