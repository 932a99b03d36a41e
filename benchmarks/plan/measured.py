"""What a load result says of one pod."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.load.result import LoadResult, Run, ServedModel, ServerSpent
from benchmarks.plan.demand import PlanError

_OPEN = ("server", "sweep")  # images that arrive by chance, and nothing else
_CLOSED = ("offline", "capacity")


@dataclass(frozen=True)
class Step:
    """One load and what came of it: medians of its valid repeats."""

    rate: float  # images a second: offered, or of a closed loop answered
    p50_ms: float | None
    p99_ms: float | None  # None where too few images say nothing of it
    answered: float  # the share of the images that got an answer
    cores_used: float | None
    front_seconds: float | None  # of CPU that an image costs the front
    decode_seconds: float | None  # of one image
    pass_stretch: float | None  # times as long as at the service's start is a pass in this load


@dataclass(frozen=True)
class Measured:
    """One target of a result."""

    target: str
    served: ServedModel
    open_loop: bool  # else the steps are clients who wait, for want of anything better
    steps: list[Step]  # from the lightest load on
    peak_memory_bytes: float | None
    left_out: list[str]  # runs that say nothing, each with the reason

    def at(self, rate: float, figure: Callable[[Step], float | None], at_rest: float | None = None) -> float | None:
        """A figure at `rate` images a second: linear between the measured loads, and beyond them as at the nearest.

        None if no load has it.
        """
        known = [(step.rate, value) for step in self.steps if (value := figure(step)) is not None]
        known += [] if at_rest is None else [(0.0, at_rest)]
        if not known:
            return None
        rates, values = zip(*sorted(known), strict=True)
        return float(np.interp(rate, rates, values))


def read_measured(result: LoadResult, target: str | None = None) -> Measured:
    """Of this target, or of the only one there is. Raises PlanError if the result is no base for a plan."""
    targets = list(dict.fromkeys(run.target for run in result.runs))
    if target is None and len(targets) > 1:
        raise PlanError(f"the result has several targets; --target says which: {', '.join(targets)}")
    name = target or next(iter(targets), "")
    if name not in targets:
        raise PlanError(f"the result has no runs of {name!r}, but of {', '.join(targets) or 'nothing'}")
    if name not in result.served:
        raise PlanError(f"the result has no pass curve of {name}: load a Mixer service with --metrics-url")
    served = result.served[name]
    _check_cores(served)
    runs = [run for run in result.runs if run.target == name]
    of_open = [run for run in runs if run.scenario in _OPEN]
    chosen = of_open or [run for run in runs if run.scenario in _CLOSED]
    if not chosen:
        raise PlanError("the result has no scenario that a plan can stand on: load with `server` or `sweep`")
    valid = [run for run in chosen if not run.invalid]
    left_out = [f"{run.scenario} at {_load_of(run)}: {'; '.join(run.invalid)}" for run in chosen if run.invalid]
    if not valid:
        raise PlanError(f"every run of the result is invalid, such as {left_out[0]}")
    return Measured(
        target=name,
        served=served,
        open_loop=bool(of_open),
        steps=_steps(valid, served),
        peak_memory_bytes=max((run.server.peak_memory_bytes or 0.0 for run in runs), default=0.0) or None,
        left_out=left_out,
    )


def _check_cores(served: ServedModel) -> None:
    if any(device in served.model["engine"] for device in ("CUDA", "TensorRT")):
        raise PlanError(f"the result is of {served.model['engine']}, and plans are for pods that compute on cores")
    if served.cores != int(served.cores) or served.cores < 1:
        raise PlanError(f"the result is of a service on {served.cores:g} cores, and pods get whole ones")


def _steps(runs: Iterable[Run], served: ServedModel) -> list[Step]:
    groups: dict[tuple[str, float], list[Run]] = {}
    for run in runs:
        load = run.offered_images_per_second if run.loop == "open" else run.clients
        groups.setdefault((run.scenario, float(load or 0)), []).append(run)
    return [_step(groups[key], served) for key in sorted(groups, key=lambda key: key[1])]


def _step(repeats: list[Run], served: ServedModel) -> Step:
    def median(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    rates = [run.offered_images_per_second if run.loop == "open" else run.images_per_second for run in repeats]
    answered = [run.codes.get("200", 0) / max(1, sum(run.codes.values())) for run in repeats]
    return Step(
        rate=median(rates) or 0.0,
        p50_ms=median(run.latency.p50 for run in repeats),
        p99_ms=median(run.latency.p99 for run in repeats),
        answered=statistics.median(answered),
        cores_used=median(run.server.cpu_seconds and run.server.cpu_seconds / run.seconds for run in repeats),
        front_seconds=median(run.server.front_seconds for run in repeats),
        decode_seconds=median(run.server.decode_seconds for run in repeats),
        pass_stretch=median(_pass_stretch(run.server, served) for run in repeats),
    )


def _pass_stretch(server: ServerSpent, served: ServedModel) -> float | None:
    if not server.mean_batch or not server.infer_seconds:
        return None
    sizes = sorted(served.pass_seconds)
    return server.infer_seconds / float(
        np.interp(server.mean_batch, sizes, [served.pass_seconds[size] for size in sizes])
    )


def _load_of(run: Run) -> str:
    return f"{run.clients} clients" if run.loop == "closed" else f"{run.offered_images_per_second:.1f} img/s"
