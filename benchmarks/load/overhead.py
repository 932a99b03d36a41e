"""What the service itself costs: CPU per image between HTTP and engine, and the longest hold of the event loop."""

import asyncio

from benchmarks.load.server_side import ServerSide, totals
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from benchmarks.report import Result, Row
from benchmarks.servers.own import own_service

NOTES = """\
The engine does nothing, and what decoding takes (the stage's sum) is taken off the process's CPU time. The hold is by
how much a timer of 1 ms was ever late; on machines that the load generator shares, that includes waiting for a core."""


async def measure_overhead(target: Target, images: list[bytes], clients: int, seconds: float) -> Row:
    """One row of a closed loop of so many clients."""
    server = ServerSide(target)
    before = totals((await server.snapshot()).metrics)
    run = await Session(target, Options(images, seconds)).closed("overhead", 0, clients)
    after = totals((await server.snapshot()).metrics)
    server.close()
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return {
        "connections": clients,
        "img/s": round(run.images_per_second, 1),
        "CPU ms per image": _milliseconds(spent["process_cpu_seconds_total"], spent),
        "of which decode": _milliseconds(spent["decode"], spent),
        "own": _milliseconds(spent["process_cpu_seconds_total"] - spent["decode"], spent),
        "longest hold of the event loop, ms": round(after["loop_longest_hold_seconds"] * 1000, 1),
    }


def _milliseconds(seconds: float, spent: dict[str, float]) -> float:
    return round(seconds * 1000 / spent["mixer_batch_size_sum"], 3)


def measure(images: list[bytes], connections: list[int], seconds: float) -> Result:
    """Start the service around the null engine and load it."""
    with own_service("benchmarks.servers.null") as service:
        target = Target("mixer", service.url, "raw", service.metrics_url)
        rows = [asyncio.run(measure_overhead(target, images, n, seconds)) for n in connections]
    return Result({"rows": rows}, NOTES)
