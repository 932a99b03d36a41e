"""A picture of the dashboard from any Prometheus, without Grafana, for the docs.

python deploy/grafana/picture.py http://localhost:9090 docs/dashboard.png --minutes 5 --window 15s
"""

import argparse
import io
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter
from PIL import Image

DASHBOARD = Path(__file__).parent / "dashboards" / "mixer.json"
COLOURS = ["#3b7dd8", "#e8853d", "#3fa35b", "#c94f4f", "#8b65c4", "#8a7a5c", "#d46fb1", "#6b7785"]
MOST_IN_LEGEND = 6
POINTS = 240
INK, FAINT, LINE, RULE = "#24292e", "#6b7785", "#d8dee4", "#c94f4f"


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the stretch of time to show."""

    url: str
    start: float
    end: float
    window: str

    def ask(self, how: str, expression: str, **times: float) -> list[dict[str, Any]]:
        """Run a query with the dashboard's variables at All."""
        for variable in ("$namespace", "$job", "$model"):
            expression = expression.replace(variable, ".*")
        query = {"query": expression.replace("$__rate_interval", self.window), **times}
        with urllib.request.urlopen(f"{self.url}/api/v1/{how}?{urllib.parse.urlencode(query)}") as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def at_the_end(self, expression: str) -> list[dict[str, Any]]:
        """Labels and value of each series."""
        return self.ask("query", expression, time=self.end)

    def over_time(self, expression: str) -> list[dict[str, Any]]:
        """Labels and values of each series."""
        step = (self.end - self.start) / POINTS
        return self.ask("query_range", expression, start=self.start, end=self.end, step=step)


def written(value: float, unit: str) -> str:
    """A figure as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def label(pattern: str, metric: dict[str, str]) -> str:
    """A legend's `{{label}}` filled in."""
    for name, value in metric.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern


def colour_of(name: str, number: int, panel: dict[str, Any]) -> str:
    """Of a series: what the dashboard gives its name, or the next."""
    for override in panel["fieldConfig"]["overrides"]:
        if re.search(override["matcher"]["options"].strip("/"), name):
            colour: str = override["properties"][0]["value"]["fixedColor"]
            return colour
    return COLOURS[number % len(COLOURS)]


def draw_stat(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """One large figure."""
    axes.axis("off")
    (series,) = source.at_the_end(panel["targets"][0]["expr"])
    text = written(float(series["value"][1]), panel["fieldConfig"]["defaults"]["unit"])
    axes.text(0.5, 0.42, text, ha="center", va="center", fontsize=19, color=COLOURS[2], transform=axes.transAxes)


def draw_table(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """A line for each label and a column for each series; hashes by their first digits."""
    axes.axis("off")
    series = source.at_the_end(panel["targets"][0]["expr"])
    for column, one in enumerate(series):
        cells = {**one["metric"], "replicas": one["value"][1]}
        for number, (name, value) in enumerate(cells.items()):
            y = 0.92 - number * 0.125
            if column == 0:
                axes.text(0.02, y, name, fontsize=7.5, color=FAINT, va="center", transform=axes.transAxes)
            x = 0.25 + 0.75 * column / len(series)
            axes.text(x, y, value[:16], fontsize=7.5, color=INK, va="center", transform=axes.transAxes)


def draw_series(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """Lines over time, or areas on top of each other."""
    defaults = panel["fieldConfig"]["defaults"]
    series = [
        (label(target["legendFormat"], one["metric"]), {at - source.start: float(value) for at, value in one["values"]})
        for target in panel["targets"]
        for one in source.over_time(target["expr"])
    ]
    series = [(name, values) for name, values in series if any(value > 0 for value in values.values())] or series[:1]
    if not series:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", color=FAINT, fontsize=9, transform=axes.transAxes)
    times = sorted({at for _, values in series for at in values})
    columns = {name: [values.get(at, math.nan) for at in times] for name, values in series}
    colours = [colour_of(name, number, panel) for number, name in enumerate(columns)]
    if "stacking" in defaults["custom"]:
        filled = [[0.0 if math.isnan(value) else value for value in column] for column in columns.values()]
        axes.stackplot(times, filled, labels=columns.keys(), colors=colours, alpha=0.75, linewidth=0)
    else:
        for colour, (name, column) in zip(colours, columns.items(), strict=True):
            axes.plot(times, column, label=name, color=colour, linewidth=1.1)
    highest = axes.get_ylim()[1]
    for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
        if step["value"] <= 2 * highest:
            axes.axhline(step["value"], color=RULE, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1.08 * highest)
    axes.set_xlim(0, source.end - source.start)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, defaults["unit"])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 60:g} min"))
    axes.locator_params(axis="y", nbins=5)
    axes.set_xticks(range(0, int(source.end - source.start) + 1, 60 * max(1, round((source.end - source.start) / 360))))
    axes.tick_params(labelsize=6.5, colors=FAINT, length=0)
    axes.grid(color=LINE, linewidth=0.5)
    for side in axes.spines.values():
        side.set_visible(False)
    if series:
        names = list(columns)[:MOST_IN_LEGEND]
        axes.legend(
            labels=names, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=3, fontsize=6.5, frameon=False,
            labelcolor=INK, handlelength=1.2, columnspacing=1.2, borderaxespad=0,
        )  # fmt: skip


DRAW: dict[str, Callable[[Axes, dict[str, Any], Source], None]] = {
    "stat": draw_stat,
    "table": draw_table,
    "timeseries": draw_series,
}


def picture(source: Source) -> Figure:
    """Every panel where the dashboard has it."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(13, bottom * 0.31))
    grid = GridSpec(bottom * 10, 240, figure=figure, left=0.015, right=0.985, top=0.99, bottom=0.01, wspace=0, hspace=0)
    for panel in panels:
        place = panel["gridPos"]
        top, left = place["y"] * 10, place["x"] * 10
        if panel["type"] == "row":
            axes = figure.add_subplot(grid[top : top + 10, :])
            axes.axis("off")
            axes.text(0, 0.3, panel["title"], fontsize=11, weight="bold", color=INK, transform=axes.transAxes)
            axes.axhline(0.05, color=LINE, linewidth=1)
            axes.set_ylim(0, 1)
            continue
        inner = (12, 9) if panel["type"] == "timeseries" else (10, 3)
        below = 13 if panel["type"] == "timeseries" else 2
        right = left + place["w"] * 10
        axes = figure.add_subplot(grid[top + inner[0] : top + place["h"] * 10 - below, left + inner[1] : right - 2])
        axes.set_title(panel["title"], fontsize=8.5, color=INK, loc="left", pad=4)
        DRAW[panel["type"]](axes, panel, source)
    return figure


def main() -> None:
    """Ask Prometheus, draw, and write a PNG of few colours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus", help="its URL")
    parser.add_argument("png", type=Path)
    parser.add_argument("--minutes", type=float, default=60, help="how far back")
    parser.add_argument("--window", default="1m", help="of rates; at least four scrapes")
    arguments = parser.parse_args()
    mpl.use("agg")
    mpl.rcParams["font.family"] = "DejaVu Sans"
    end = time.time()
    source = Source(arguments.prometheus, end - arguments.minutes * 60, end, arguments.window)
    file = io.BytesIO()
    picture(source).savefig(file, dpi=100, facecolor="white")
    Image.open(file).convert("RGB").quantize(64).save(arguments.png, optimize=True)


if __name__ == "__main__":
    main()
