"""What the service itself costs: CPU per image between HTTP and engine, and the longest hold of the event loop."""

import asyncio

from benchmarks.load.server_side import ServerSide, totals
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from benchmarks.report import Result, Row
from benchmarks.servers.own import own_service

NOTES = """\
The engine does nothing. CPU is milliseconds an image: the front's is its event loop's, where HTTP is done, the lanes'
is all else, and that is decoding. The hold is by how much a timer of 1 ms was ever late; on machines that the load
generator shares, that includes waiting for a core."""


async def measure_overhead(target: Target, images: list[bytes], clients: int, seconds: float) -> Row:
    """One row of a closed loop of so many clients."""
    server = ServerSide(target)
    before = await server.snapshot()
    run = await Session(target, Options(images, seconds)).closed("overhead", 0, clients)
    after = await server.snapshot()
    server.close()
    began, ended = totals(before.metrics), totals(after.metrics)
    spent = {name: value - began.get(name, 0.0) for name, value in ended.items()}
    images_passed, front = spent["mixer_batch_size_sum"], spent["mixer_front_cpu_seconds_total"]
    whole = (after.cpu_seconds or 0.0) - (before.cpu_seconds or 0.0)
    return {
        "connections": clients,
        "img/s": round(run.images_per_second, 1),
        "front": round(1000 * front / images_passed, 3),
        "lanes": round(1000 * (whole - front) / images_passed, 3),
        "longest hold of the event loop, ms": round(ended["loop_longest_hold_seconds"] * 1000, 1),
    }


def measure(images: list[bytes], connections: list[int], seconds: float) -> Result:
    """Start the service around the null engine and load it."""
    with own_service("benchmarks.servers.null") as service:
        target = Target("mixer", service.url, "raw", service.metrics_url, service.pid)
        rows = [asyncio.run(measure_overhead(target, images, n, seconds)) for n in connections]
    return Result({"rows": rows}, NOTES)
