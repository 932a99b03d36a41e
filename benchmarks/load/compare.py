"""How the first target does beside each other one."""

import statistics
from collections.abc import Callable, Iterable

from benchmarks.load.result import Run
from benchmarks.load.table import grouped
from benchmarks.report import Row


def ratio_rows(runs: Iterable[Run]) -> list[Row]:
    """A row for each other target and load that both had: the first target's figures over the other's.

    Medians of the repeats' ratios, within which both ran one after the other; invalid runs are left out. None where a
    figure is missing or 0.
    """
    groups = grouped(runs)
    targets = list(dict.fromkeys(target for target, _, _ in groups))
    return [
        {
            "": f"{targets[0]} / {other}",
            "scenario": scenario,
            "load": load or "each its own",
            "img/s": _ratio(first, group, lambda run: run.images_per_second),
            "good img/s": _ratio(first, group, lambda run: run.good_images_per_second),
            "p50": _ratio(first, group, lambda run: run.latency.p50),
            "p99": _ratio(first, group, lambda run: run.latency.p99),
            "img per CPU-second": _ratio(first, group, lambda run: run.server.images_per_cpu_second),
            "peak memory": _ratio(first, group, lambda run: run.server.peak_memory_bytes),
        }
        for (other, scenario, load), group in groups.items()
        if other != targets[0] and (first := groups.get((targets[0], scenario, load)))
    ]


def _ratio(ours: list[Run], theirs: list[Run], figure: Callable[[Run], float | None]) -> float | None:
    pairs = [(figure(a), figure(b)) for a, b in zip(ours, theirs, strict=False) if not a.invalid and not b.invalid]
    ratios = [a / b for a, b in pairs if a is not None and b]
    return round(statistics.median(ratios), 2) if ratios else None
