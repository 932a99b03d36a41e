"""Pictures of what is inside a Mixer and of how it errs."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("agg")

FloatArray = npt.NDArray[np.float64]


def draw_confusion(path: Path, matrix: npt.NDArray[np.int64], labels: list[str]) -> None:
    """A confusion matrix [classes, classes] as PNG, rows true and columns predicted, each row scaled to its sum."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    if len(labels) <= 40:
        axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(range(len(labels)), labels)
    if len(labels) <= 20:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                shade = "black" if shares[row, column] > 0.6 else "white"
                axes.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)
    figure.savefig(path, dpi=120, format="png")


def draw_units(path: Path, panels: dict[str, FloatArray], most: int = 144) -> None:
    """Panels of small pictures side by side as PNG.

    Each panel's units are [units, h, w] (weights of either sign, drawn red and blue around zero) or
    [units, h, w, 3] (colours in 0..1); at most `most` of each are drawn, in order.
    """
    figure = Figure(figsize=(5 * len(panels), 5.4), layout="constrained")
    for axes, (title, units) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.set_title(title)
        axes.set_axis_off()
        _draw_grid(axes, units[:most])
    figure.savefig(path, dpi=150, format="png")


def _draw_grid(axes: Axes, units: FloatArray) -> None:
    count, height, width, *colour = units.shape
    columns = 2 * math.ceil(math.sqrt(count) / 2)  # about square, and even so that pairs stay side by side
    rows = -(-count // columns)
    canvas = np.full((rows * (height + 1), columns * (width + 1), *colour), np.nan if not colour else 1.0)
    for i, unit in enumerate(units):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        # Units differ in scale by orders of magnitude; what is to be seen is each one's form.
        canvas[top : top + height, left : left + width] = unit if colour else unit / (np.abs(unit).max() or 1)
    axes.imshow(canvas, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
