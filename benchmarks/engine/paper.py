"""The paper's table: every variant's images per second and core beside the TPUv3's, each as a share of a peak."""

import argparse
import shlex
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.arguments import positive, whole
from benchmarks.engine.published import TPU_V3, beside_the_paper
from benchmarks.environment import describe_environment
from benchmarks.report import RESULTS, Result, Row, write_report
from service.host import allowed_cores

if TYPE_CHECKING:
    from benchmarks.engine.measurement import Measurement


NOTES = """\
GFLOP of an image are twice the multiply-accumulates of stem, MLPs and head at 224 x 224. The TPUv3's images per second
are the paper's (arXiv:2105.01601, table 3); its peak is the nominal 61.5 TFLOP/s of a core in bf16, half of the chip's
123 (https://cloud.google.com/tpu/docs/v3). Ours are of the fastest engine at each precision, medians of interleaved
rounds, by the number of threads. Our peak is measured: the best median below of a matrix product at the same precision,
for int8 twice that of bf16. A nominal peak would be higher, and our share of it lower; it is not stated, because a
virtual machine tells neither the clock of its cores nor whether one is half of a physical one. A share above 100 %
means that something else ran beside the products. Random weights."""


def add_command(commands: Any) -> None:
    """Add `paper` to the commands of `python -m benchmarks`."""
    parser: argparse.ArgumentParser = commands.add_parser("paper")
    parser.set_defaults(run=_run, name="paper")
    parser.add_argument("--variants", type=_some_of(TPU_V3), default=list(TPU_V3), help="default: the paper's seven")
    parser.add_argument(
        "--precisions", type=_some_of(("fp32", "bf16", "int8")), default=["bf16", "int8"], help="default: bf16,int8"
    )
    parser.add_argument("--threads", type=whole, default=max(1, int(allowed_cores())), help="default: all cores")
    parser.add_argument("--batch-size", type=whole, default=8, help="default: %(default)s")
    parser.add_argument("--rounds", type=whole, default=5, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=positive, default=0.3, help="of one run, or one pass if longer; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")


def _some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: must be of {', '.join(known)}")
        return names

    return read


def _run(options: argparse.Namespace, line: list[str]) -> Path:
    """Write the report after each variant: the large ones take long, and whoever interrupts them keeps the others."""
    command = shlex.join(["python", "-m", "benchmarks", *line])
    for result in measure_paper(
        options.variants, options.precisions, options.threads, options.batch_size, options.rounds, options.seconds
    ):
        path = write_report(options.out, options.name, command, describe_environment(), result)
    return path


def measure_paper(
    variants: list[str], precisions: list[str], threads: int, batch_size: int, rounds: int, seconds: float
) -> Iterator[Result]:
    """The table after each variant, with all before it; one variant's engines are in memory at a time."""
    # With torch, which other commands run without.
    from benchmarks.engine.columns.ours import OURS  # noqa: PLC0415
    from benchmarks.engine.gemm import GEMMS  # noqa: PLC0415
    from benchmarks.engine.measurement import speed_rows  # noqa: PLC0415
    from benchmarks.engine.speed import measure_subject  # noqa: PLC0415
    from benchmarks.engine.subject import make_subject  # noqa: PLC0415

    columns = [column for column in OURS if column.precision in precisions]
    measurements: list[Measurement] = []
    products: list[Row] = []
    for variant in variants:
        found, rows = measure_subject(make_subject(variant), columns, GEMMS, [threads], [batch_size], rounds, seconds)
        measurements = beside_the_best_products([*measurements, *found])
        products += rows
        tables = {
            "rows": paper_rows(measurements),
            "each engine": speed_rows(measurements),
            "matrix products": products,
        }
        yield Result(tables, NOTES)


def beside_the_best_products(measurements: "list[Measurement]") -> "list[Measurement]":
    """The same with one peak a precision, the best timed beside any variant: it is the machine's."""
    peaks: dict[str, float] = {}
    for m in measurements:
        peaks[m.column.precision] = max(m.peak or 0.0, peaks.get(m.column.precision, 0.0))
    return [replace(m, peak=peaks[m.column.precision]) for m in measurements]


def paper_rows(measurements: "list[Measurement]") -> list[Row]:
    """A row for each variant and precision: its fastest engine beside the paper's figure."""
    rows = []
    for _, engines in groupby(measurements, key=lambda m: (m.model, m.column.precision)):
        best = max(engines, key=lambda m: m.median)
        if best.peak is None:
            raise ValueError(f"no matrix product was timed at {best.column.precision}")
        rate, peak = best.median / best.threads, best.peak / best.threads
        rows.append(beside_the_paper(best.model, best.gflop, best.column.name, best.batch, rate, peak))
    return rows
