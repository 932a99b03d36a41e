"""What the service itself costs: CPU per image between HTTP and engine, and the longest hold of the event loop."""

import asyncio

from benchmarks.load import measure_closed_loop, scrape
from benchmarks.own_service import own_service
from benchmarks.report import Result, Row

NOTES = """\
The engine does nothing, and what decoding takes (the stage's sum) is taken off the process's CPU time. The hold is by
how much a timer of 1 ms was ever late; on machines that the load generator shares, that includes waiting for a core."""


async def measure_overhead(url: str, metrics_url: str, images: list[bytes], connections: int, seconds: float) -> Row:
    """One row of a closed loop over `connections`."""
    before = await scrape(metrics_url)
    row = await measure_closed_loop(url, metrics_url, images, connections, seconds)
    after = await scrape(metrics_url)
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return {
        "connections": connections,
        "img/s": row["img/s"],
        "CPU ms per image": _milliseconds(spent["process_cpu_seconds_total"], spent),
        "of which decode": _milliseconds(spent["decode"], spent),
        "own": _milliseconds(spent["process_cpu_seconds_total"] - spent["decode"], spent),
        "longest hold of the event loop, ms": round(after["loop_longest_hold_seconds"] * 1000, 1),
    }


def _milliseconds(seconds: float, spent: dict[str, float]) -> float:
    return round(seconds * 1000 / spent["mixer_batch_size_sum"], 3)


def measure(images: list[bytes], connections: list[int], seconds: float) -> Result:
    """Start the service around the null engine and load it."""
    with own_service("benchmarks.null_service") as (url, metrics_url):
        rows = [asyncio.run(measure_overhead(url, metrics_url, images, n, seconds)) for n in connections]
    return Result({"rows": rows}, NOTES)
