"""One cell of the experiment, and the tables that follow from many."""

import statistics
from dataclasses import dataclass
from itertools import groupby

from benchmarks.engine.agreement import Agreement
from benchmarks.engine.columns.column import Column
from benchmarks.report import Row


@dataclass(frozen=True)
class Measurement:
    """What one column did for one model at one batch size and number of threads."""

    model: str
    threads: int
    batch: int
    column: Column
    rates: list[float]  # img/s, one a round
    gflop: float  # of an image
    peak: float | None  # GFLOP/s of the machine at the column's precision
    agreement: Agreement

    @property
    def panel(self) -> tuple[str, int, int]:
        """What columns are compared within: model, threads, batch."""
        return self.model, self.threads, self.batch

    @property
    def median(self) -> float:
        """img/s."""
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """(max - min) / median of the rounds."""
        return (max(self.rates) - min(self.rates)) / self.median

    def ratio_to(self, other: "Measurement") -> float:
        """How many times as fast, median over rounds, within which both ran side by side."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True))


def speed_rows(measurements: list[Measurement]) -> list[Row]:
    """A row a measurement: speed, and beside it what it is worth."""
    return [_speed_row(m) for m in measurements]


def _speed_row(m: Measurement) -> Row:
    gflops = m.median * m.gflop
    return {
        "model": m.model,
        "engine": m.column.name,
        "precision": m.column.precision,
        "threads": m.threads,
        "batch": m.batch,
        "img/s": round(m.median, 1),
        "img/s/core": round(m.median / m.threads, 1),
        "GFLOP/s": round(gflops, 1),
        "% of GEMM peak": round(100 * gflops / m.peak, 1) if m.peak else None,
        "spread %": round(100 * m.spread, 1),
        "cosine": round(m.agreement.cosine, 6),
        "top-1 %": round(100 * m.agreement.top1, 1),
        "batch-invariant": m.agreement.batch_invariant,
    }


def ratio_rows(measurements: list[Measurement], best_only: bool) -> list[Row]:
    """A row for each of our columns, or the fastest of them, in each panel: its speed over every competitor's."""
    rows: list[Row] = []
    for _, panel in groupby(measurements, key=lambda m: m.panel):
        columns = list(panel)
        ours = [m for m in columns if m.column.ours]
        if best_only:
            ours = sorted(ours, key=lambda m: m.median)[-1:]
        rows += [
            {
                "model": m.model,
                "threads": m.threads,
                "batch": m.batch,
                "engine": m.column.name,
                **{f"/ {other.column.name}": round(m.ratio_to(other), 2) for other in columns if not other.column.ours},
            }
            for m in ours
        ]
    return rows
