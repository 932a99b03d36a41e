"""The engines alone: images per second by model, column, batch size and threads, without HTTP or decoding."""

import statistics
import tempfile
from itertools import product
from pathlib import Path

from tqdm import tqdm

from benchmarks.engine.agreement import measure_agreement
from benchmarks.engine.chart import draw_chart
from benchmarks.engine.columns.column import Column
from benchmarks.engine.columns.competitors import COMPETITORS
from benchmarks.engine.columns.model_files import ModelFiles
from benchmarks.engine.columns.ours import OURS
from benchmarks.engine.gemm import GEMMS, SIZE, Gemm, peaks
from benchmarks.engine.measurement import Measurement, ratio_rows, speed_rows
from benchmarks.engine.rounds import interleaved_rates
from benchmarks.engine.subject import IMAGES, Subject, make_subject
from benchmarks.report import Result, Row
from model_export.bundles.reference import reference_outputs
from service.arrays import LOGITS

NOTES = f"""\
Images per second are medians of interleaved rounds; the spread is (max - min) / median; a ratio is the median of the
rounds' ratios. Competitors take images that were normalised before, which is not timed; ours take pixels; *split*
means that each thread runs its own part of the batch. The GEMM peak
is the fastest {SIZE}^3 matrix product below at the same precision, for int8 twice that of bf16. Cosine (of the worst
image) and top-1 agreement are with torch fp32 on {IMAGES} synthetic images. Batch-invariant: whoever shares the batch,
an image's logits keep every bit. Variants have random weights, so that their top-1 hangs on small differences."""


def measure_engine(
    sources: list[str], threads: list[int], batch_sizes: list[int], rounds: int, seconds: float
) -> Result:
    """Every competitor and every engine of ours on each variant or checkpoint, one after the other.

    Raises ExportError for a source that is neither.
    """
    columns = [*COMPETITORS, *OURS]
    measurements: list[Measurement] = []
    products: list[Row] = []
    for subject in [make_subject(source) for source in sources]:  # all before the first: a wrong name fails at once
        more, rows = measure_subject(subject, columns, GEMMS, threads, batch_sizes, rounds, seconds)
        measurements += more
        products += rows
    tables = {
        "rows": speed_rows(measurements),
        "ratios of our fastest": ratio_rows(measurements, best_only=True),
        "ratios of each of ours": ratio_rows(measurements, best_only=False),
        "matrix products": products,
    }
    return Result(tables, NOTES, draw_chart(measurements))


def measure_subject(
    subject: Subject,
    columns: list[Column],
    gemms: list[Gemm],
    threads: list[int],
    batch_sizes: list[int],
    rounds: int,
    seconds: float,
) -> tuple[list[Measurement], list[Row]]:
    """Every column at every number of threads and batch size, and the GEMM peaks as rows, all in the same rounds."""
    reference = reference_outputs(subject.checkpoint, subject.images)[LOGITS]
    cells = list(product(threads, batch_sizes, columns))
    with tempfile.TemporaryDirectory() as folder:
        files = ModelFiles(subject, Path(folder))
        loading = tqdm(list(product(threads, columns)), desc=f"{subject.name} load", unit="engine")
        binds = {(n, column): column.load(files, n) for n, column in loading}
        checking = tqdm(cells, desc=f"{subject.name} agreement", unit="cell")
        agreements = {
            (n, size, column): measure_agreement(binds[n, column], subject.images, reference, size)
            for n, size, column in checking
        }
        products = {(n, 0, gemm): gemm.load(n) for n, gemm in product(threads, gemms)}
        passes = {(n, size, column): binds[n, column](subject.batch(size)) for n, size, column in cells}
        rates = interleaved_rates({**products, **passes}, rounds, seconds, f"{subject.name} rounds")
    speeds = {(n, gemm): statistics.median(rates[n, 0, gemm]) * gemm.gflop for n, gemm in product(threads, gemms)}
    peak = {n: peaks({gemm: speeds[n, gemm] for gemm in gemms}) for n in threads}
    measurements = [
        Measurement(
            model=subject.name,
            threads=n,
            batch=size,
            column=column,
            rates=[rate * size for rate in rates[n, size, column]],
            gflop=2 * subject.checkpoint.config.macs / 1e9,
            peak=peak[n].get(column.precision),
            agreement=agreements[n, size, column],
        )
        for n, size, column in cells
    ]
    rows: list[Row] = [
        {"beside": subject.name, "threads": n, "product": gemm.name, "GFLOP/s": round(speed, 1)}
        for (n, gemm), speed in speeds.items()
    ]
    return measurements, rows
