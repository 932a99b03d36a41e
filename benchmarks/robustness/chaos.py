"""`python -m benchmarks chaos`: one fault after the other on a running service, and what a good client sees of each."""

import argparse
import asyncio
import resource
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive
from benchmarks.environment import describe_environment
from benchmarks.load.command import parse_header, without_secrets
from benchmarks.load.images import read_images
from benchmarks.load.samples import OK
from benchmarks.load.target import make_target
from benchmarks.report import RESULTS, Result, Row, write_report
from benchmarks.robustness.faults import FAULTS
from benchmarks.robustness.good_client import GoodClient, Seen
from benchmarks.robustness.processes import hit_a_lane

NOTES = """\
A good client asks for one image after the other, twenty a second, first undisturbed, then beside each fault. "Success"
is the share of its requests that are answered, the latencies are theirs; the probes (live and ready) are asked once a
second. After each fault it is watched until ten answers in a row take no longer than twice what nine in ten undisturbed
ones took: "normal after" is when the first of them was asked for. A fault holds if success is at least 99 %, p99 at
most ten times the undisturbed one (or 100 ms), and no probe fails."""

_SUCCESS, _SLOWER, _ALWAYS_ALLOWED = 0.99, 10.0, 0.1
_LANE_EVERY = 5.0  # seconds between two lanes that are lost
LOCAL = {"a lane is killed": signal.SIGKILL, "a lane is stopped": signal.SIGSTOP}


@dataclass(frozen=True)
class Victim:
    """The service."""

    url: str  # of /v1/classify
    headers: dict[str, str]
    pid: int | None = None  # of its front, on this machine


@dataclass(frozen=True)
class Outcome:
    """Of one fault."""

    fault: str
    seen: Seen
    recovery: float | None  # seconds; None: it was not normal again in time


async def cause(victim: Victim, faults: list[str], images: list[bytes], seconds: float) -> list[Outcome]:
    """Undisturbed first, called "none", then each fault for so long.

    Raises ValueError if the undisturbed client gets no answer, RuntimeError or OSError if a fault cannot be caused.
    """
    client = GoodClient(victim.url, images, victim.headers)
    undisturbed = await client.watch(seconds)
    if not undisturbed.success:
        raise ValueError(f"{victim.url}: not one good answer, but {undisturbed.samples.codes()}")
    outcomes = [Outcome("none", undisturbed, 0.0)]
    for fault in faults:
        async with _caused(victim, fault):
            seen = await client.watch(seconds)
        outcomes.append(Outcome(fault, seen, await client.seconds_until_normal(2 * undisturbed.quantile(90))))
    return outcomes


def holds(seen: Seen, undisturbed: Seen) -> bool:
    """As the notes have it."""
    allowed = max(_ALWAYS_ALLOWED, _SLOWER * undisturbed.quantile(99))
    return seen.success >= _SUCCESS and seen.quantile(99) <= allowed and not seen.failed_probes


@asynccontextmanager
async def _caused(victim: Victim, fault: str) -> AsyncIterator[None]:
    """The fault, for the length of the block."""
    if fault in LOCAL:
        hitting = asyncio.create_task(_hit_lanes(victim.pid or 0, LOCAL[fault]))
        try:
            yield
            if hitting.done():
                hitting.result()  # raises what ended it
        finally:
            hitting.cancel()
        return
    told = [fault, victim.url, *(f"{name}:{value}" for name, value in victim.headers.items())]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.robustness.faults", *told, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout:
            await process.stdout.readline()  # its libraries are loaded
        yield
        if process.returncode is not None:
            raise RuntimeError(f"{fault}: what causes it ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _hit_lanes(front: int, number: signal.Signals) -> None:
    while True:
        await asyncio.to_thread(hit_a_lane, front, number)
        await asyncio.sleep(_LANE_EVERY)


def rows(outcomes: list[Outcome]) -> list[Row]:
    """The table: the undisturbed client first."""
    undisturbed = outcomes[0].seen
    return [
        {
            "fault": outcome.fault,
            "requests": len(outcome.seen.samples),
            "success %": round(100 * outcome.seen.success, 2),
            "instead": {code: count for code, count in outcome.seen.samples.codes().items() if code != OK} or "nothing",
            "p50 ms": _milliseconds(outcome.seen.quantile(50)),
            "p99 ms": _milliseconds(outcome.seen.quantile(99)),
            "probes failed": f"{outcome.seen.failed_probes} of {outcome.seen.probes}",
            "normal after s": None if outcome.recovery is None else round(outcome.recovery, 2),
            "holds": holds(outcome.seen, undisturbed),
        }
        for outcome in outcomes
    ]


def _milliseconds(seconds: float) -> float | None:
    return None if seconds == float("inf") else round(1000 * seconds, 1)


def add_command(commands: Any) -> None:
    """Add `chaos` to the commands of `python -m benchmarks`."""
    chaos = commands.add_parser("chaos")
    chaos.set_defaults(run=_run)
    add = chaos.add_argument
    add("--url", required=True, help="of the service: scheme, host and port")
    add("--pid", type=int, help="of the service on this machine, of which lanes are killed and stopped then")
    add("--minutes", type=positive, default=5.0, help="of all faults together; default: %(default)s")
    add("--fault", action="append", metavar="NAME", help=f"of {', '.join([*FAULTS, *LOCAL])}; default: all")
    add("--images", default="digits", help="of the good client: digits, photographs or a folder; default: %(default)s")
    add(
        "--header",
        type=parse_header,
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="to send along, such as a key",
    )
    add("--name", default="chaos", help="of the result files; default: %(default)s")
    add("--out", type=Path, default=RESULTS, help="default: %(default)s")


def _run(options: argparse.Namespace, arguments: list[str]) -> Path:
    """Cause every fault and write the table; the Markdown's path. Exits with one line for what cannot be."""
    command = shlex.join(["python", "-m", "benchmarks", *without_secrets(arguments)])
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    try:
        faults = _chosen(options)
        victim = Victim(make_target("mixer", options.url).url, dict(options.header), options.pid)
        seconds = 60 * options.minutes / (1 + len(faults))
        outcomes = asyncio.run(cause(victim, faults, read_images(options.images), seconds))
    except (ValueError, OSError, RuntimeError, KeyboardInterrupt) as error:
        sys.exit(f"mixer-bench chaos: {'interrupted' if isinstance(error, KeyboardInterrupt) else error}")
    result = Result({"rows": rows(outcomes)}, NOTES)
    return write_report(options.out, options.name, command, describe_environment(), result)


def _chosen(options: argparse.Namespace) -> list[str]:
    """Raises ValueError for a fault that is none, or that needs a process."""
    known = [*FAULTS, *LOCAL]
    chosen: list[str] = options.fault or [*FAULTS, *(LOCAL if options.pid else ())]
    for name in chosen:
        if name not in known:
            raise ValueError(f"fault {name!r} is not one of {', '.join(known)}")
        if name in LOCAL and not options.pid:
            raise ValueError(f"fault {name!r} needs --pid")
    return chosen
