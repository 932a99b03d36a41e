"""How many cores this process may use, and how they are split between decoding and the engine."""

import os
from dataclasses import dataclass
from pathlib import Path

from service.cgroup import limiting_groups


def allowed_cores(root: Path = Path("/")) -> float:
    """Cores this process may use: its CPU affinity, capped by every cgroup (v1 or v2) quota above it.

    May be fractional (a container limited to half a core). `root` is where /proc and /sys are looked up.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(affinity), *_quotas(root)])


def _quotas(root: Path) -> list[float]:
    read = {1: _quota_v1, 2: _quota_v2}
    return [quota for version, group in limiting_groups("cpu", root) if (quota := read[version](group)) is not None]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if quota <= 0 else quota / period


# Of their cores' time, what decoding and passes that take turns use; the rest goes in handing over.
_TURNS_EFFICIENCY = 0.85


@dataclass(frozen=True, slots=True)
class ThreadBudget:
    """The one split of the allowed cores: decode + engine threads <= cores, if there is at least one.

    With 0 decode threads decoding has none of its own: it takes turns with the engine on the engine's.
    """

    cores: float
    decode_threads: int
    engine_threads: int


def thread_budget(
    cores: float, engine_threads: int = 0, engine_seconds: float = 3.0, decode_seconds: float = 1.0
) -> ThreadBudget:
    """Split `cores` so that most images are answered, given the core-seconds that one spends in engine and decoding.

    `engine_threads` says how many the engine gets; decoding gets the rest, and takes turns where nothing is left.
    """
    whole = max(1, int(cores))
    if engine_threads:
        return ThreadBudget(cores, max(0, whole - engine_threads), engine_threads)
    rates = {engine: min(engine / engine_seconds, (whole - engine) / decode_seconds) for engine in range(1, whole)}
    if whole == 1 or engine_seconds > decode_seconds:  # where decoding is the larger part, its own thread is kept busy
        rates[whole] = _TURNS_EFFICIENCY * whole / (engine_seconds + decode_seconds)
    best = max(rates, key=rates.__getitem__)
    return ThreadBudget(cores, whole - best, best)
