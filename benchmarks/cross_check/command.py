"""`python -m benchmarks cross-check`: the load benchmark beside MLPerf LoadGen and perf_analyzer, on one service."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop
from tqdm import tqdm

from benchmarks.arguments import positive, whole
from benchmarks.cross_check.comparison import Comparison
from benchmarks.cross_check.loads import beside_loadgen, beside_perf_analyzer, rate_of_many
from benchmarks.cross_check.perf_analyzer import PerfAnalyzerMissingError, fetch_perf_analyzer
from benchmarks.load.images import read_images
from benchmarks.load.session import Options, Session
from benchmarks.load.table import generator_rows
from benchmarks.load.target import make_target
from benchmarks.report import RESULTS, Result
from benchmarks.servers.own import own_service

ROOT = Path(__file__).parent.parent.parent
_SHARE = 0.25  # of what many clients get: a rate far from what either generator's clients can send

NOTES = """\
MLPerf LoadGen scenarios, not an MLPerf result. Each round measures a load four times: ours, other, other, ours, every
other round the other way about; a round's figures are the means of both turns. Figures are medians of the rounds, the
ratio (ours / other) is the median of the rounds' ratios, and the 95 % interval is that median's (by order statistics,
from six rounds on): where it reaches from within 10 % of 1 to beyond, the rounds are too few, or the machine too
noisy, to say whether the two agree. A generator takes from a service that shares its cores what it spends itself.
Ours counts latency from when a query was due, as LoadGen does, and so its own lateness (see below); perf_analyzer
counts from when it sent."""


def add_command(commands: Any) -> None:
    """Add `cross-check` to the commands of `python -m benchmarks`."""
    command = commands.add_parser("cross-check")
    command.set_defaults(measure=_measure, name="cross-check")
    add = command.add_argument
    add("--url", help="scheme, host and port of a Mixer service (default: start it on the embedded bundle)")
    add("--model", default="digits", help="that it serves; default: %(default)s")
    add("--images", default="digits", help="digits, photographs or a folder; default: %(default)s")
    add("--rate", type=positive, help="images/s of the open loops; default: a quarter of what 32 clients get")
    add("--seconds", type=positive, default=5, help="of one run, of which a round has four; default: %(default)s")
    add("--rounds", type=whole, default=6, help="default: %(default)s")
    add("--out", type=Path, default=RESULTS, help="default: %(default)s")


def _measure(options: argparse.Namespace) -> Result:
    try:
        with ExitStack() as stack:
            url = options.url or stack.enter_context(own_service()).url.removesuffix("/v1/classify")
            return _cross_check(url, options)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"mixer-bench cross-check: {error}")


def _cross_check(url: str, options: argparse.Namespace) -> Result:
    if url.startswith("https:"):
        raise ValueError(f"{url}: LoadGen's clients speak plain http only")
    shared = Options(read_images(options.images), options.seconds, quiet=True)
    raw, v2 = (Session(make_target(preset, url, model=options.model), shared) for preset in ("mixer", "mixer-v2"))
    for session in (raw, v2):
        uvloop.run(session.check())
    at_most = rate_of_many(raw)
    rate = options.rate or max(1, round(_SHARE * at_most))
    comparisons, missing = [], []
    try:
        comparisons += beside_loadgen(raw, rate, at_most)
    except ImportError as error:
        missing.append(f"Without LoadGen: {error}; pip install mlcommons-loadgen")
    try:
        program = fetch_perf_analyzer(ROOT / ".venv" / "perf_analyzer")
        comparisons += beside_perf_analyzer(v2, options.model, rate, program)
    except PerfAnalyzerMissingError as error:
        missing.append(f"Without perf_analyzer: {error}")
    _measure_rounds(comparisons, options.rounds)
    missing += [f"{it.other}, {it.load}, ended early: {it.failure}" for it in comparisons if it.failure]
    rows = [row for comparison in comparisons for row in comparison.rows()]
    if not rows:
        raise RuntimeError("; ".join(missing))
    return Result({"rows": rows, "our generator": generator_rows([*raw.runs, *v2.runs])}, "\n".join([NOTES, *missing]))


def _measure_rounds(comparisons: Sequence[Comparison], rounds: int) -> None:
    with tqdm(total=rounds * len(comparisons), desc="cross-check", unit="load") as progress:
        for number in range(rounds):
            for comparison in comparisons:
                comparison.measure(number)
                progress.update()
