"""Damaged images by the thousand through the real service: a documented answer to each, in time, and nobody harmed."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from benchmarks.load.server_side import ServerSide
from benchmarks.load.target import Target
from benchmarks.report import Result, Row
from benchmarks.robustness.memory import memory_growth, memory_rows
from benchmarks.robustness.mutations import Seed, mutated, seeds

NOTES = """\
Every image is an intact one with one to four mutations: flipped bits, telling numbers in place of lengths and counts,
cuts, splices with other files, chunks swapped, repeated and removed; most PNGs get right checksums again. Every
twentieth request is an intact digit, whose answer is known. Expected are 200, 400 (nothing left), 413, 415 and 422,
each within 10 s; whatever is refused for lack of room (429) is sent again. Growth is the median memory of the last
tenth of the time over that of the second tenth. `benchmarks.robustness.mutations.mutated(seeds(), seed, number)` is
the image of a number."""

_EXPECTED = {200, 400, 413, 415, 422}
_HUNG = 10.0  # seconds
_GOOD_EVERY = 20


@dataclass
class Fuzz:
    """What was seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    by_format: dict[str, Counter[str]] = field(default_factory=dict)
    good: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    slowest: list[tuple[float, int, str]] = field(default_factory=list)  # seconds, number, format and status
    memory: list[float] = field(default_factory=list)  # bytes, once a second


async def measure_fuzz(
    url: str, metrics_url: str, digit: tuple[bytes, int], images: int, seed: int, connections: int = 16
) -> Result:
    """Send `images` mutated images, and in between `digit`: an image and the index of its right answer."""
    fuzz = Fuzz()
    intact = seeds()
    numbers = iter(range(images))
    timeout = aiohttp.ClientTimeout(total=_HUNG)
    headers = {"x-deadline-ms": str(3000 * _HUNG)}  # so that a slow machine is seen as slow, and not as full
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:

        async def client() -> None:
            for number in numbers:
                await _send(session, url, mutated(intact, seed, number), number, fuzz)
                if number % _GOOD_EVERY == 0:
                    await _send_digit(session, url, digit, fuzz)

        started = time.perf_counter()
        server = ServerSide(Target("mixer", url, "raw", metrics_url), fuzz.memory)
        watching = asyncio.create_task(server.watch_memory())
        await asyncio.gather(*(client() for _ in range(connections)))
        watching.cancel()
        server.close()
    return Result(
        {"rows": [_row(fuzz, images, seed, time.perf_counter() - started)], "slowest": _slowest(fuzz)}
        | {"by format": [{"format": name, "answers": dict(count)} for name, count in sorted(fuzz.by_format.items())]}
        | {"memory": memory_rows(fuzz.memory)},
        NOTES,
    )


async def _send(session: aiohttp.ClientSession, url: str, image: Seed, number: int, fuzz: Fuzz) -> None:
    while True:
        sent = time.perf_counter()
        try:
            async with session.post(url, data=image.data) as response:
                await response.read()
            status = str(response.status)
        except TimeoutError:
            status = "hung"
        except aiohttp.ClientError as error:
            status = type(error).__name__
        if status != "429":
            break
        fuzz.statuses["429, sent again"] += 1
        await asyncio.sleep(0.1)
    seconds = time.perf_counter() - sent
    fuzz.statuses[status] += 1
    fuzz.by_format.setdefault(image.format, Counter())[status] += 1
    fuzz.slowest = sorted([*fuzz.slowest, (seconds, number, f"{image.format} {status}")], reverse=True)[:5]
    if status not in map(str, _EXPECTED):
        fuzz.unexpected.append(f"{number}: {status}")


async def _send_digit(session: aiohttp.ClientSession, url: str, digit: tuple[bytes, int], fuzz: Fuzz) -> None:
    data, index = digit
    try:
        async with session.post(url, data=data) as response:
            body = await response.json()
        if response.status == 429:
            fuzz.good["429"] += 1
        else:
            right = response.status == 200 and body["predictions"][0]["index"] == index
            fuzz.good["right" if right else f"wrong: {response.status}"] += 1
    except (TimeoutError, aiohttp.ClientError) as error:
        fuzz.good[type(error).__name__] += 1


def _row(fuzz: Fuzz, images: int, seed: int, seconds: float) -> Row:
    return {
        "images": images,
        "seed": seed,
        "seconds": round(seconds),
        "answers": dict(sorted(fuzz.statuses.items())),
        "unexpected": ", ".join(fuzz.unexpected) or "none",
        "digits in between": dict(fuzz.good),
        "slowest s": round(fuzz.slowest[0][0], 2),
        "peak MiB": round(max(fuzz.memory) / 2**20),
        "memory growth %": None if (growth := memory_growth(fuzz.memory)) is None else round(100 * growth, 1),
    }


def _slowest(fuzz: Fuzz) -> list[Row]:
    return [{"number": number, "image": what, "seconds": round(s, 3)} for s, number, what in fuzz.slowest]
