"""Every command of `mixer-bench`, with what it needs loaded."""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.arguments import positive, whole
from benchmarks.cross_check import command as cross_check
from benchmarks.engine import gpu, paper
from benchmarks.engine.decode import measure_decode
from benchmarks.environment import describe_environment
from benchmarks.load import command as load
from benchmarks.load import overhead
from benchmarks.load.images import read_images
from benchmarks.plan import command as plan
from benchmarks.report import RESULTS, Result, write_report
from benchmarks.robustness import chaos
from benchmarks.robustness.fuzz import Digit, measure_fuzz
from benchmarks.servers.own import own_service
from service.host import allowed_cores

ROOT = Path(__file__).parent.parent


def run(line: list[str]) -> Path:
    """Run one command, as it was typed; the path of what it wrote."""
    options = _parser().parse_args(line)
    path: Path = options.run(options, line) if "run" in options else _report(options, line)
    return path


def _report(options: argparse.Namespace, line: list[str]) -> Path:
    command = shlex.join(["python", "-m", "benchmarks", *line])
    return write_report(options.out, options.name, command, describe_environment(), options.measure(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mixer-bench")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    engine = commands.add_parser("engine")
    engine.set_defaults(measure=_engine, name="engine")
    engine.add_argument(
        "--variants",
        type=lambda text: text.split(","),
        default=["S/32", "B/16"],
        help="with random weights, or checkpoints with their own; default: S/32,B/16",
    )
    engine.add_argument("--threads", type=_integers, default=[max(1, int(allowed_cores()))], help="default: all cores")
    engine.add_argument("--batch-sizes", type=_integers, default=[1, 2, 4, 8, 16, 32])
    engine.add_argument("--rounds", type=whole, default=5, help="default: %(default)s")
    engine.add_argument(
        "--seconds", type=positive, default=0.3, help="of one run, or one pass if longer; default: %(default)s"
    )

    steps = commands.add_parser("steps")
    steps.set_defaults(measure=_steps, name="steps")
    steps.add_argument("--variants", type=lambda text: text.split(","), default=["S/32", "B/16"])
    steps.add_argument("--threads", type=whole, default=max(1, int(allowed_cores())), help="default: all cores")
    steps.add_argument("--batch-sizes", type=_integers, default=[1, 8])
    steps.add_argument("--rounds", type=whole, default=9, help="default: %(default)s")
    steps.add_argument("--seconds", type=positive, default=0.3, help="of one run; default: %(default)s")

    decoding = commands.add_parser("decode")
    decoding.set_defaults(measure=_decode, name="decode")
    decoding.add_argument(
        "--sizes",
        type=_sizes,
        default=[(500, 375), (1024, 768), (4000, 3000)],
        help="default: 500x375,1024x768,4000x3000",
    )
    decoding.add_argument("--rounds", type=whole, default=15, help="default: %(default)s")
    decoding.add_argument("--seconds", type=positive, default=0.3, help="of one run; default: %(default)s")

    train = commands.add_parser("train")
    train.set_defaults(measure=_train, name="train")
    train.add_argument("--variants", type=lambda text: text.split(","), default=["S/32"], help="default: S/32")
    train.add_argument("--threads", type=whole, default=max(1, int(allowed_cores())), help="default: all cores")
    train.add_argument("--batch-size", type=whole, default=64, help="default: %(default)s")
    train.add_argument("--rounds", type=whole, default=5, help="default: %(default)s")
    train.add_argument("--seconds", type=positive, default=1, help="of one run, or one step; default: %(default)s")

    load.add_commands(commands)
    plan.add_command(commands)
    cross_check.add_command(commands)
    chaos.add_command(commands)
    own = commands.add_parser("overhead")
    own.set_defaults(measure=_overhead, name="overhead")
    own.add_argument("--connections", type=_integers, default=[1, 8, 32])
    own.add_argument("--seconds", type=positive, default=5, help="of one row, default: %(default)s")
    fuzz = commands.add_parser("fuzz")
    fuzz.set_defaults(measure=_fuzz, name="fuzz")
    fuzz.add_argument("--count", type=whole, default=100_000, help="default: %(default)s")
    fuzz.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    gpu.add_command(commands)
    paper.add_command(commands)
    own.add_argument("--images", default="digits", help="digits, photographs or a folder; default: %(default)s")
    for command in (engine, steps, train, decoding, own, fuzz):
        command.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    return parser


def _integers(text: str) -> list[int]:
    return sorted({whole(part) for part in text.split(",")})


def _sizes(text: str) -> list[tuple[int, int]]:
    return [(int(width), int(height)) for width, height in (size.split("x") for size in text.split(","))]


@contextmanager
def _refusals_in_a_line(command: str) -> Iterator[None]:
    from model_export.errors import ExportError  # noqa: PLC0415 - `load` runs without the export stage

    try:
        yield
    except ExportError as error:
        sys.exit(f"mixer-bench {command}: {error}")


def _engine(options: argparse.Namespace) -> Result:
    # With torch, which `load` runs without.
    from benchmarks.engine.speed import measure_engine  # noqa: PLC0415

    with _refusals_in_a_line("engine"):
        return measure_engine(options.variants, options.threads, options.batch_sizes, options.rounds, options.seconds)


def _steps(options: argparse.Namespace) -> Result:
    from benchmarks.engine.steps import measure_steps  # noqa: PLC0415 - with torch, as `engine`

    return measure_steps(options.variants, options.threads, options.batch_sizes, options.rounds, options.seconds)


def _train(options: argparse.Namespace) -> Result:
    from benchmarks.engine.training import measure_training  # noqa: PLC0415 - with torch, as `engine`

    with _refusals_in_a_line("train"):
        return measure_training(options.variants, options.threads, options.batch_size, options.rounds, options.seconds)


def _decode(options: argparse.Namespace) -> Result:
    return measure_decode(options.sizes, options.rounds, options.seconds)


def _fuzz(options: argparse.Namespace) -> Result:
    digit = (ROOT / "models" / "digits" / "1" / "golden" / "digit-7.png").read_bytes()
    with own_service(grpc=True) as service:
        return asyncio.run(measure_fuzz(service, Digit(digit, 7), options.count, options.seed))


def _overhead(options: argparse.Namespace) -> Result:
    return overhead.measure(read_images(options.images), options.connections, options.seconds)
