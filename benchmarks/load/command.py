"""`python -m benchmarks load` and `compare`: the same scenarios on one target, or on several in turn."""

import argparse
import re
import resource
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks.arguments import not_negative, positive, whole
from benchmarks.load.forms import FORMS
from benchmarks.load.images import read_images
from benchmarks.load.measure import measure
from benchmarks.load.result import LoadResult
from benchmarks.load.scenarios import SCENARIOS
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Options
from benchmarks.load.started import start
from benchmarks.load.target import PRESETS, Address, Target, make_target, parse_target
from benchmarks.load.write import write_result
from benchmarks.report import RESULTS

ROOT = Path(__file__).parent.parent.parent
_DEFAULT = ["single-stream", "offline"]
_COMPARED = ["mixer", "mixer-onnxruntime", "plain"]


def add_commands(commands: Any) -> None:
    """Add `load` and `compare` to the commands of `python -m benchmarks`."""
    load = commands.add_parser("load")
    load.add_argument("--url", help="endpoint (default: start the service, or with --target plain the other)")
    load.add_argument("--target", default="mixer", choices=PRESETS, help="what answers there; default: %(default)s")
    load.add_argument("--metrics-url", help="a Mixer service's /metrics, for what the server spends")
    load.add_argument("--pid", type=int, help="of the server on this machine, for what it spends")
    compare = commands.add_parser("compare")
    compare.add_argument(
        "--target",
        action="append",
        metavar="PRESET[=URL[,METRICS_URL][,PID]]",
        help="the first is what the others are compared with; without a URL it is started;"
        f" default: {' '.join(_COMPARED)}; PRESET: {', '.join(PRESETS)}",
    )
    for command, name in ((load, "load"), (compare, "compare")):
        command.set_defaults(run=_run, command=name)
        _add_options(command)


def _add_options(command: argparse.ArgumentParser) -> None:
    defaults = Parameters()
    add = command.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", default=_DEFAULT,
        help=f"of {', '.join(SCENARIOS)}; default: {' '.join(_DEFAULT)}")  # fmt: skip
    add("--bundle", type=Path, default=ROOT / "models" / "digits" / "1",
        help="that servers started here serve; default: %(default)s")  # fmt: skip
    add("--model", help="in the path of a v2 target; default: the bundle's name")
    add("--form", help=f"of the request, instead of the target's: {FORMS}")
    add("--header", type=parse_header, action="append", default=[], metavar="NAME:VALUE",
        help="to send along, such as x-api-key:...")  # fmt: skip
    add("--images", default="digits", help="digits, photographs or a folder; default: %(default)s")
    add("--seconds", type=positive, default=10, help="of one run, after the warm-up; default: %(default)s")
    add("--warmup", type=not_negative, default=2, help="seconds; default: %(default)s")
    add("--repeats", type=whole, default=3, help="of everything but soak; default: %(default)s")
    add("--seed", type=int, default=0, help="of the arrivals; default: %(default)s")
    add("--slo-ms", type=positive, default=500, help="what a good answer takes at most; default: %(default)s")
    add("--deadline-ms", type=positive, help="that the server is told; default: none")
    add("--timeout", type=positive, default=10, help="seconds; default: %(default)s")
    add("--clients", type=_integers, default=defaults.clients, help="offline; default: 1,8,32,64")
    add("--images-per-query", type=whole, default=defaults.images_per_query, help="multi-stream; default: %(default)s")
    add("--rate", type=positive, help="images/s: server, instead of a search; overload, soak, instead of a share")
    add("--resolution", type=positive, default=defaults.resolution, help="server: of the search; default: %(default)s")
    add("--factor", type=positive, default=defaults.factor, help="overload: of the capacity; default: %(default)s")
    add("--share", type=positive, default=defaults.share, help="soak: of the capacity; default: %(default)s")
    add("--soak-seconds", type=positive, default=defaults.soak_seconds, help="default: %(default)s")
    add("--sweep", type=_numbers, default=defaults.sweep, help="shares of the capacity; default: 0.1 ... 1.2")
    add("--note", type=_note, action="append", default=[], metavar="NAME=TEXT",
        help="for the result, such as litserve=0.2.19")  # fmt: skip
    add("--quiet", action="store_true", help="no progress")
    add("--name", help="of the result files; default: the command's")
    add("--out", type=Path, default=RESULTS, help="default: %(default)s")


def _run(options: argparse.Namespace, arguments: list[str]) -> Path:
    """Measure and write the files; the Markdown's path. Exits with one line for what cannot be."""
    command = shlex.join(["python", "-m", "benchmarks", *without_secrets(arguments)])
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a connection is one
    name = options.name or options.command
    kept: list[Path] = []

    def keep(result: LoadResult) -> None:
        kept[:] = [write_result(options.out, name, result)]

    try:
        with ExitStack() as stack:
            targets = _targets(options, stack)
            shared, parameters = _shared_options(options), _parameters(options)
            notes = dict(options.note)
            uvloop.run(measure(targets, options.scenarios, options.repeats, shared, parameters, command, notes, keep))
    except (ValueError, OSError, RuntimeError, psutil.Error, KeyboardInterrupt) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else error
        until = f"; what was measured until then is in {kept[0]}" if kept else ""
        sys.exit(f"mixer-bench {options.command}: {why}{until}")
    return kept[0]


def without_secrets(arguments: list[str]) -> list[str]:
    """A header may hold a key, and results are shown around."""
    return [
        re.sub(r"^(--header=)?([^:]*):.*", r"\1\2:...", argument, flags=re.DOTALL)
        if argument.startswith("--header=") or before == "--header"
        else argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
    ]


def _targets(options: argparse.Namespace, stack: ExitStack) -> list[Target]:
    bundle = options.bundle.resolve()
    for name in options.scenarios:
        if name not in SCENARIOS:
            raise ValueError(f"scenario {name!r} is not one of {', '.join(SCENARIOS)}")
    if isinstance(options.target, str):
        if (options.metrics_url or options.pid) and not options.url:
            raise ValueError("--metrics-url and --pid are of the server at --url, which is missing")
        address = Address(options.url, options.metrics_url, options.pid) if options.url else None
        given = [(options.target, address)]
    else:
        given = [parse_target(text) for text in options.target or _COMPARED]
    started = start({preset for preset, address in given if address is None}, bundle, stack)
    targets: list[Target] = []
    for preset, address in given:
        url, metrics_url, pid, copy, sleeps = address or started[preset]
        target = make_target(preset, url, form=options.form, model=options.model or bundle.parent.name)
        name = _own_name(preset, [other.name for other in targets])
        target = replace(target, name=name, metrics_url=metrics_url, pid=pid, bundle=copy, sleeps=sleeps)
        targets.append(replace(target, headers=tuple(options.header)))
    return targets


def _own_name(preset: str, taken: Sequence[str]) -> str:
    """The preset's, and with a number of the second and later ones: `mixer`, `mixer 2`."""
    same = sum(name.partition(" ")[0] == preset for name in taken)
    return f"{preset} {same + 1}" if same else preset


def _shared_options(options: argparse.Namespace) -> Options:
    return Options(
        images=read_images(options.images),
        seconds=options.seconds,
        warmup=options.warmup,
        timeout=options.timeout,
        objective_ms=options.slo_ms,
        deadline_ms=options.deadline_ms,
        seed=options.seed,
        quiet=options.quiet,
    )


def _parameters(options: argparse.Namespace) -> Parameters:
    return Parameters(
        clients=tuple(options.clients),
        images_per_query=options.images_per_query,
        resolution=options.resolution,
        rate=options.rate,
        factor=options.factor,
        share=options.share,
        soak_seconds=options.soak_seconds,
        sweep=tuple(options.sweep),
    )


def _integers(text: str) -> list[int]:
    return sorted({whole(part) for part in _parts(text)})


def _numbers(text: str) -> list[float]:
    return sorted({positive(part) for part in _parts(text)})


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    for part in parts:
        try:
            float(part)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not a list of numbers") from None
    return parts


def parse_header(text: str) -> tuple[str, str]:
    """NAME:VALUE, of the command line."""
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text} is not NAME:VALUE")
    return name.strip().lower(), value.strip()


def _note(text: str) -> tuple[str, str]:
    name, separator, note = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=TEXT")
    return name, note
