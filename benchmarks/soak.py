"""Ten minutes near capacity, with bad images and clients that leave: is everybody answered, and memory flat?"""

import asyncio
import io
import math
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.load import measure_closed_loop, scrape
from benchmarks.report import Result, Row

NOTES = """\
Requests arrive by chance (Poisson) at a share of what 32 connections reach in a closed loop just before. 1 % of
them carry a damaged image, 1 % of the clients leave before their answer. Growth is the median memory of the last tenth
of the time over that of the second tenth; "unsettled" is admitted images less those with an outcome, at the end. "Good"
are answers within the deadline, or within 500 ms where none is sent. Latency is normal again once a request after the
last arrival takes no longer than the slowest of ten, one after the other, did before the first."""

_DAMAGED, _LEAVING = 0.01, 0.01  # shares of the requests
_GOOD_MS = 500.0
_LONGEST_RECOVERY = 10.0  # seconds
_PATIENCE = 0.002  # seconds that a leaving client waits


@dataclass
class Soak:
    """What was seen: answers by status, and the service's memory over time."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of every 200
    refused_seconds: list[float] = field(default_factory=list)  # of every 429
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds since the start, bytes


async def measure_soak(
    url: str,
    metrics_url: str,
    images: list[bytes],
    seconds: float,
    load: float = 0.9,
    deadline_ms: float | None = None,
    seed: int = 0,
) -> Result:
    """Run it against a service; memory is sampled once a second. `load` beyond 1 is overload."""
    closed = await measure_closed_loop(url, metrics_url, images, connections=32, seconds=5)
    peak = float(str(closed["img/s"]))
    rate = load * peak
    soak = Soak()
    headers = {"x-deadline-ms": str(deadline_ms)} if deadline_ms else {}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        normal = max([await _latency(session, url, images[0]) for _ in range(10)])
        before = await scrape(metrics_url)
        started = time.perf_counter()
        watching = asyncio.create_task(_watch(metrics_url, soak, started))
        last = await _send(session, url, images, soak, rate, seconds, random.Random(seed))
        elapsed = time.perf_counter() - started
        recovered = await _normal_again(session, url, images[0], normal)
        await asyncio.gather(*last)
        watching.cancel()
        await asyncio.sleep(1)  # the last answers are counted after they are sent
        after = await scrape(metrics_url)
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    good = sum(one <= (deadline_ms or _GOOD_MS) / 1000 for one in soak.seconds) / elapsed
    row = _row(soak, spent, rate, elapsed) | {
        "good img/s": round(good, 1),
        "closed loop img/s": round(peak, 1),
        "normal again after s": recovered,
    }
    return Result({"rows": [row], "memory": memory_rows(soak.memory)}, NOTES)


async def _send(
    session: aiohttp.ClientSession,
    url: str,
    images: list[bytes],
    soak: Soak,
    rate: float,
    seconds: float,
    chance: random.Random,
) -> set[asyncio.Task[None]]:
    """Returns the requests that are still on their way after the last arrival."""
    tasks: set[asyncio.Task[None]] = set()
    at = started = time.perf_counter()
    while at < started + seconds:
        at += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        image = chance.choice(images)
        kind = chance.random()
        if kind < _DAMAGED:
            image = image[: len(image) // 2]
        patience = _PATIENCE if _DAMAGED <= kind < _DAMAGED + _LEAVING else None
        task = asyncio.create_task(_request(session, url, image, patience, soak))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    return tasks


async def _normal_again(session: aiohttp.ClientSession, url: str, image: bytes, normal: float) -> float | None:
    """Seconds until a request is as quick as it was, None if that takes longer than ten."""
    started = time.perf_counter()
    while (since := time.perf_counter() - started) < _LONGEST_RECOVERY:
        if await _latency(session, url, image) <= normal:
            return round(since, 2)
    return None


async def _latency(session: aiohttp.ClientSession, url: str, image: bytes) -> float:
    """Seconds; endless if it is refused."""
    sent = time.perf_counter()
    async with session.post(url, data=image) as response:
        await response.read()
    return time.perf_counter() - sent if response.status == 200 else math.inf


async def _request(session: aiohttp.ClientSession, url: str, image: bytes, patience: float | None, soak: Soak) -> None:
    sent = time.perf_counter()
    try:
        timeout = aiohttp.ClientTimeout(total=patience or 60)
        async with session.post(url, data=io.BytesIO(image), timeout=timeout) as response:
            await response.read()
        soak.statuses[str(response.status)] += 1
        if response.status == 200:
            soak.seconds.append(time.perf_counter() - sent)
        if response.status == 429:
            soak.refused_seconds.append(time.perf_counter() - sent)
    except TimeoutError:
        soak.statuses["left" if patience else "timeout"] += 1
    except aiohttp.ClientError as error:
        soak.statuses[type(error).__name__] += 1


async def _watch(metrics_url: str, soak: Soak, started: float) -> None:
    while True:
        samples = await scrape(metrics_url)
        soak.memory.append((time.perf_counter() - started, samples["process_resident_memory_bytes"]))
        await asyncio.sleep(1)


def _row(soak: Soak, spent: dict[str, float], rate: float, elapsed: float) -> Row:
    outcomes = {
        name: int(spent.get(name, 0)) for name in ("ok", "invalid", "rejected", "expired", "cancelled", "error")
    }
    admitted = int(spent["mixer_admitted_images_total"])
    return {
        "seconds": round(elapsed),
        "offered img/s": round(rate, 1),
        "answered img/s": round(soak.statuses["200"] / elapsed, 1),
        "p50 ms": round(statistics.median(soak.seconds) * 1000, 1),
        "p99 ms": _p99_ms(soak.seconds),
        "refused p99 ms": _p99_ms(soak.refused_seconds),
        "answers": dict(soak.statuses),
        "outcomes": outcomes,
        "admitted": admitted,
        "unsettled": admitted - sum(outcomes.values()) + outcomes["rejected"],
        "memory growth %": round(100 * memory_growth(soak.memory), 1),
        "img per CPU-second": round(outcomes["ok"] / spent["process_cpu_seconds_total"], 1),
    }


def _p99_ms(seconds: list[float]) -> float | None:
    return round(statistics.quantiles(seconds, n=100)[98] * 1000, 1) if len(seconds) > 1 else None


def memory_growth(memory: list[tuple[float, float]]) -> float:
    """Median of the last tenth over that of the second tenth, less 1."""
    tenth = max(1, len(memory) // 10)
    early = statistics.median(size for _, size in memory[tenth : 2 * tenth] or memory[:1])
    return statistics.median(size for _, size in memory[-tenth:]) / early - 1


def memory_rows(memory: list[tuple[float, float]]) -> list[Row]:
    """About twenty of the samples."""
    step = max(1, len(memory) // 20)
    return [{"second": round(at), "MiB": round(size / 2**20, 1)} for at, size in memory[::step]]


def read_images(folder: Path) -> list[bytes]:
    """The encoded images of a folder, in the order of their names."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".npy"]
