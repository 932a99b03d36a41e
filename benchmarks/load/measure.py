"""The repeats of the scenarios over the targets, in turn, and what is said beside them."""

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from urllib.parse import urlsplit

from benchmarks.environment import describe_environment
from benchmarks.load.answers import check_answers
from benchmarks.load.result import LoadResult
from benchmarks.load.scenarios import SCENARIOS
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.served import read_served
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from benchmarks.load.undisturbed import priority
from benchmarks.servers.peer import awake
from service.host import allowed_cores


async def measure(
    targets: Sequence[Target],
    scenarios: Sequence[str],
    repeats: int,
    options: Options,
    parameters: Parameters,
    command: str,
    notes: dict[str, str],
    keep: Callable[[LoadResult], None],
) -> None:
    """Everything that `command` asks for; `keep` gets the result after each repeat, and at an end before its time.

    Raises ValueError or OSError for a target that gives no good answer.
    """
    environment = describe_environment() | ({"notes": notes} if notes else {})
    environment["load"] = {
        **{target.name: f"{target.url} ({target.form})" for target in targets},
        **{name: value for name, value in vars(options).items() if name not in ("images", "quiet")},
        "images": len(options.images),
        "generator's priority": priority(),
    }
    sessions = [Session(target, options) for target in targets]
    said: dict[str, list[bytes]] = {}
    for session in sessions:
        with _its_turn(session.target):
            said[session.target.name] = await session.check()
    answers = check_answers(said)
    for session in sessions:
        session.served = await read_served(session.target, said[session.target.name][0])
    here = [session for session in sessions if session.served and _is_here(session.target)]
    peak = _gemm_peak_gflops() if here else {}
    for session in here:
        session.gemm_peak_gflops = peak
    date = datetime.now(UTC).date().isoformat()

    def so_far() -> LoadResult:
        return LoadResult(
            command=command,
            date=date,
            environment=environment,
            served={session.target.name: session.served for session in sessions if session.served},
            gemm_peak_gflops=peak,
            runs=[run for session in sessions for run in session.runs],
            answers=answers,
            findings={session.target.name: session.findings for session in sessions if session.findings},
        )

    try:
        for repeat in range(repeats):
            for name in scenarios:
                # Every other round goes backwards, so that none always follows the same one.
                for session in sessions if repeat % 2 == 0 else reversed(sessions):
                    with _its_turn(session.target):
                        await SCENARIOS[name](session, parameters, repeat)
            keep(so_far())
    except BaseException:
        if any(session.runs for session in sessions):
            keep(so_far())
        raise


def _its_turn(target: Target) -> AbstractContextManager[None]:
    return awake(target.pid) if target.sleeps and target.pid else nullcontext()


def _is_here(target: Target) -> bool:
    """On this machine, whose matrix products can be measured."""
    return urlsplit(target.url).hostname in ("127.0.0.1", "::1", "localhost")


def _gemm_peak_gflops() -> dict[str, float]:
    """What the machine's matrix products reach, where torch is installed to measure them."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from benchmarks.engine.gemm import measure_peaks  # noqa: PLC0415 - loads torch

    return {str(precision): gflops for precision, gflops in measure_peaks(max(1, int(allowed_cores()))).items()}
