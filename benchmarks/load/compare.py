"""How the first target, and each of ours, does beside the others."""

import statistics
from collections.abc import Callable, Iterable

from benchmarks.load.result import Run
from benchmarks.load.table import grouped
from benchmarks.report import Row


def ratio_rows(runs: Iterable[Run]) -> list[Row]:
    """A row for each load that two targets had: the first target's figures over each other one's, and those of each
    other of ours, such as on another engine, over each that is not.

    Medians of the repeats' ratios, within which both ran one after the other; invalid runs are left out. None where a
    figure is missing or 0.
    """
    groups = grouped(runs)
    targets = list(dict.fromkeys(target for target, _, _ in groups))
    return [
        {
            "": f"{one} / {other}",
            "scenario": scenario,
            "load": load or "each its own",
            "img/s": _ratio(first, group, lambda run: run.images_per_second),
            "good img/s": _ratio(first, group, lambda run: run.good_images_per_second),
            "p50": _ratio(first, group, lambda run: run.latency.p50),
            "p99": _ratio(first, group, lambda run: run.latency.p99),
            "img per CPU-second": _ratio(first, group, lambda run: run.server.images_per_cpu_second),
            "peak memory": _ratio(first, group, lambda run: run.server.peak_memory_bytes),
        }
        for one in targets
        for (other, scenario, load), group in groups.items()
        if other in _beside(one, targets) and (first := groups.get((one, scenario, load)))
    ]


def _beside(one: str, targets: list[str]) -> list[str]:
    """The targets that this one's figures are put over."""
    first, *others = targets
    if one == first:
        return others
    return [other for other in others if not _is_ours(other)] if _is_ours(one) else []


def _is_ours(target: str) -> bool:
    return target.startswith("mixer")


def _ratio(ours: list[Run], theirs: list[Run], figure: Callable[[Run], float | None]) -> float | None:
    pairs = [(figure(a), figure(b)) for a, b in zip(ours, theirs, strict=False) if not a.invalid and not b.invalid]
    ratios = [a / b for a, b in pairs if a is not None and b]
    return round(statistics.median(ratios), 2) if ratios else None
