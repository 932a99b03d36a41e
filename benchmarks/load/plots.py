"""Runs as pictures: latency over rate, throughput, and how latency is spread."""

import io

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.load.result import Run
from benchmarks.load.table import Key, grouped, usable

mpl.use("agg")

_QUANTILES = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p99_9": "p99.9", "max": "max"}


def draw(runs: list[Run]) -> bytes:
    """A PNG with the panels that these runs have something for."""
    groups = grouped(runs)
    swept = [run for run in runs if run.scenario == "sweep"]
    figure = Figure(figsize=(6 * (3 if swept else 2), 4.5), layout="constrained")
    panels = figure.subplots(1, 3 if swept else 2)
    _throughput(panels[0], groups)
    _quantiles(panels[1], groups)
    if swept:
        _curve(panels[2], swept)
    file = io.BytesIO()
    figure.savefig(file, dpi=110, format="png")
    return file.getvalue()


def _throughput(axes: Axes, groups: dict[Key, list[Run]]) -> None:
    rates = [sorted(run.images_per_second for run in usable(group)) for group in groups.values()]
    middles = [group[len(group) // 2] for group in rates]
    errors = [[m - group[0] for m, group in zip(middles, rates, strict=True)],
              [group[-1] - m for m, group in zip(middles, rates, strict=True)]]  # fmt: skip
    axes.barh(range(len(groups)), middles, xerr=errors, color="#4c72b0")
    axes.set_yticks(range(len(groups)), [" ".join(key).strip() for key in groups], fontsize=7)
    axes.invert_yaxis()
    axes.set_title("Images a second", fontsize=9)


def _quantiles(axes: Axes, groups: dict[Key, list[Run]]) -> None:
    for key, group in groups.items():
        latency = group[0].latency.model_dump()
        known = [name for name in _QUANTILES if latency[name] is not None]
        axes.plot([_QUANTILES[name] for name in known], [latency[name] for name in known], marker=".",
                  label=" ".join(key).strip())  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    axes.set_title("Latency (first repeat)", fontsize=9)
    if groups:
        axes.legend(fontsize=6)


def _curve(axes: Axes, runs: list[Run]) -> None:
    for target in dict.fromkeys(run.target for run in runs):
        first = min(run.repeat for run in runs if run.target == target)
        of_target = sorted(
            (run for run in runs if (run.target, run.repeat) == (target, first)),
            key=lambda run: run.offered_images_per_second or 0.0,
        )
        for name in ("p50", "p99"):
            points = [(run.offered_images_per_second, latency) for run in of_target
                      if (latency := run.latency.model_dump()[name]) is not None]  # fmt: skip
            axes.plot(*zip(*points, strict=True), marker=".", label=f"{target} {_QUANTILES[name]}") if points else None
    axes.set_yscale("log")
    axes.set_xlabel("offered images a second")
    axes.set_ylabel("ms")
    axes.set_title("Latency over rate (first repeat)", fontsize=9)
    axes.legend(fontsize=6)
