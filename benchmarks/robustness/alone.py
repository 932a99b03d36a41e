"""What one request costs a service on this machine that has nothing else to do."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.load.server_side import tree
from benchmarks.report import Row
from benchmarks.robustness.processes import cpu_seconds, forget_peak, lanes, peak_bytes

_SHOWN = 10


@dataclass(frozen=True)
class Cost:
    """Of one request."""

    number: int
    what: str
    seconds: float
    cpu_seconds: float  # of all processes
    grown_bytes: int  # by the most, of any lane


async def cost_rows(
    front: int, requests: Sequence[tuple[int, str]], send: Callable[[int], Awaitable[None]]
) -> list[Row]:
    """The ten that take the most CPU time and the ten that take the most memory, of these numbers and descriptions."""
    costs = [await _cost(front, number, what, send) for number, what in requests]
    by_cpu = sorted(costs, key=lambda cost: cost.cpu_seconds, reverse=True)[:_SHOWN]
    by_memory = sorted(costs, key=lambda cost: cost.grown_bytes, reverse=True)[:_SHOWN]
    return [
        {
            "number": cost.number,
            "request": cost.what,
            "ms": round(1000 * cost.seconds, 1),
            "CPU ms": round(1000 * cost.cpu_seconds),
            "MiB more": round(cost.grown_bytes / 2**20, 1),
        }
        for cost in dict.fromkeys([*by_cpu, *by_memory])
    ]


async def _cost(front: int, number: int, what: str, send: Callable[[int], Awaitable[None]]) -> Cost:
    processes = await asyncio.to_thread(lambda: tree(psutil.Process(front)))
    held = {lane: peak for lane in lanes(front) if (peak := _from_now(lane))}
    before = sum(cpu_seconds(process) or 0.0 for process in processes)
    started = time.perf_counter()
    await send(number)
    seconds = time.perf_counter() - started
    spent = sum(cpu_seconds(process) or 0.0 for process in processes) - before
    grown = max((peak_bytes(lane) - peak for lane, peak in held.items()), default=0)
    return Cost(number, what, seconds, max(0.0, spent), max(0, grown))


def _from_now(lane: psutil.Process) -> int:
    forget_peak(lane)
    return peak_bytes(lane)
