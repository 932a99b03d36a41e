"""Closed-loop load over HTTP: each connection posts an image, waits for its answer, posts the next."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.report import Row


@dataclass
class Tally:
    """What the clients saw: seconds of every good answer, and the codes of all."""

    seconds: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)


async def measure_closed_loop(
    url: str, metrics_url: str | None, images: list[bytes], connections: int, seconds: float
) -> Row:
    """One row: rate, latency percentiles and errors of `connections` clients over `seconds`, after a short warm-up.

    With `metrics_url` also what the server spent: CPU seconds, from which images per core-second follow, and the
    mean batch.
    """
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _run(session, url, images, connections, seconds=min(1.0, seconds))
        before = await _scrape(session, metrics_url)
        started = time.perf_counter()
        tally = await _run(session, url, images, connections, seconds)
        elapsed = time.perf_counter() - started
        after = await _scrape(session, metrics_url)
    return _row(connections, tally, elapsed, {name: after[name] - before.get(name, 0.0) for name in after}, after)


async def _run(
    session: aiohttp.ClientSession, url: str, images: list[bytes], connections: int, seconds: float
) -> Tally:
    tally = Tally()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (sent := time.perf_counter()) < end:
            number += 1
            try:
                async with session.post(url, data=images[number % len(images)]) as response:
                    await response.read()
                code = str(response.status)
            except aiohttp.ClientError as error:
                code = type(error).__name__
            tally.codes[code] += 1
            if code == "200":
                tally.seconds.append(time.perf_counter() - sent)

    await asyncio.gather(*(client(i) for i in range(connections)))
    return tally


async def scrape(metrics_url: str) -> dict[str, float]:
    """One scrape of /metrics (see `_scrape`)."""
    async with aiohttp.ClientSession() as session:
        return await _scrape(session, metrics_url)


async def _scrape(session: aiohttp.ClientSession, metrics_url: str | None) -> dict[str, float]:
    """Samples summed over their labels, by name; images also by outcome and stages' seconds by stage."""
    if metrics_url is None:
        return {}
    async with session.get(metrics_url) as response:
        families = text_string_to_metric_families(await response.text())
    sums: Counter[str] = Counter()
    for family in families:
        for sample in family.samples:
            sums[sample.name] += sample.value  # type: ignore[assignment]
            if sample.name == "mixer_images_total":
                sums[sample.labels["outcome"]] += sample.value  # type: ignore[assignment]
            if sample.name == "mixer_stage_duration_seconds_sum":
                sums[sample.labels["stage"]] += sample.value  # type: ignore[assignment]
    return dict(sums)


def _row(connections: int, tally: Tally, elapsed: float, spent: dict[str, float], now: dict[str, float]) -> Row:
    rate = len(tally.seconds) / elapsed
    milliseconds = np.array(tally.seconds or [float("nan")]) * 1000
    row: Row = {
        "connections": connections,
        "img/s": round(rate, 1),
        **{f"p{q} ms": round(float(np.percentile(milliseconds, q)), 1) for q in (50, 90, 99)},
        "errors": {code: count for code, count in tally.codes.items() if code != "200"} or "none",
    }
    if spent:
        row |= {
            "img/s/core allowed": round(rate / now["mixer_cores"], 1),
            "img per engine core-second": round(len(tally.seconds) / spent["mixer_engine_core_seconds_total"], 1),
            "img per CPU-second": round(len(tally.seconds) / spent["process_cpu_seconds_total"], 1),
            "mean batch": round(spent["mixer_batch_size_sum"] / spent["mixer_batch_size_count"], 2),
        }
    return row
