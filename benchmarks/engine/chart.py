"""Speed as a picture: a panel for each model, number of threads and batch size, a bar for each column."""

import io
from itertools import groupby

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.engine.measurement import Measurement

mpl.use("agg")

_COLOURS = {"fp32": "#4c72b0", "bf16": "#55a868", "int8": "#c44e52"}
_PANELS_A_ROW = 6


def draw_chart(measurements: list[Measurement]) -> bytes:
    """A PNG: medians as bars, coloured by precision and pale for competitors; lines reach from worst to best round."""
    panels = [list(panel) for _, panel in groupby(measurements, key=lambda m: m.panel)]
    across = min(_PANELS_A_ROW, len(panels))
    down = -(-len(panels) // across)
    height = 1 + 0.28 * len(panels[0])
    figure = Figure(figsize=(2 + 2.8 * across, height * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel)
    grid[0, 0].invert_yaxis()  # of all, as they share it: the first column on top
    figure.legend(
        handles=[Patch(color=colour, label=precision) for precision, colour in _COLOURS.items()],
        loc="outside lower center",
        ncols=len(_COLOURS),
        title="pale: competitors",
    )
    file = io.BytesIO()
    figure.savefig(file, dpi=110, format="png")
    return file.getvalue()


def _draw_panel(axes: Axes, panel: list[Measurement]) -> None:
    model, threads, batch = panel[0].panel
    axes.set_title(f"{model}, batch {batch}, threads {threads}: img/s", fontsize=9)
    medians = [m.median for m in panel]
    axes.barh(
        range(len(panel)),
        medians,
        xerr=[[m.median - min(m.rates) for m in panel], [max(m.rates) - m.median for m in panel]],
        color=[to_rgba(_COLOURS[m.column.precision], 1.0 if m.column.ours else 0.45) for m in panel],
    )
    for i, m in enumerate(panel):
        axes.text(max(m.rates), i, f" {m.median:,.{0 if m.median >= 10 else 1}f}", va="center", fontsize=8)
    axes.set_yticks(range(len(panel)), [m.column.name for m in panel], fontsize=8)
    axes.set_xlim(0, 1.2 * max(max(m.rates) for m in panel))
    axes.tick_params(axis="x", labelsize=8)
