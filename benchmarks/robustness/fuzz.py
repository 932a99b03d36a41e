"""Damaged images by the thousand through the real service: a documented answer to each, in time, and nobody harmed."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from benchmarks.load.server_side import ServerSide, totals
from benchmarks.load.target import Target
from benchmarks.report import Result, Row
from benchmarks.robustness.alone import cost_rows
from benchmarks.robustness.doors import DOORS, Request
from benchmarks.robustness.memory import memory_growth, memory_rows
from benchmarks.robustness.mutations import Seed, damaged_body, mutated, seeds
from benchmarks.robustness.sending import FULL, OK, Sender, sender
from benchmarks.servers.own import OwnService

NOTES = """\
Every image is an intact one with one to four mutations: flipped bits, telling numbers in place of lengths, counts and
the fields of headers, cuts, splices with other files, chunks swapped, repeated and removed; most PNGs get right
checksums again. Each goes through one of the service's doors; of every eighth request the body is damaged as well.
Every twentieth request is an intact digit, whose answer is known, and so is that of a digit in a form beside a damaged
image. Expected are 200, 400, 413, 415 and 422, over gRPC OK, INVALID_ARGUMENT and, where the model's name is damaged,
NOT_FOUND, each within 10 s; whatever is refused for lack of room (429, RESOURCE_EXHAUSTED) is sent again. The slowest
are sent once more, one at a time, with nothing else to do: "the costliest" has what they took of all processes' CPU,
and by how much a lane's memory grew meanwhile. Growth is the median memory of the last tenth of the time over that of
the second tenth. `benchmarks.robustness.fuzz.fuzzed(seeds(), digit, seed, number)` is the request of a number."""

_EXPECTED = {*OK, "400", "413", "415", "422", "INVALID_ARGUMENT", "NOT_FOUND"}
_GOOD_EVERY = 20
_BODY_EVERY = 8
_COSTLY = 0.01  # the share of the requests, the slowest, that is sent again alone
_MOST_COSTLY = 500


class Digit(NamedTuple):
    """An image whose answer is known."""

    data: bytes
    answer: int


class Fuzzed(NamedTuple):
    """A request, and what it is made of."""

    format: str
    door: str
    request: Request


class Slow(NamedTuple):
    """How long a request took, for the slowest to be found."""

    seconds: float
    number: int


@dataclass
class Fuzz:
    """What was seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    by_format: dict[str, Counter[str]] = field(default_factory=dict)
    by_door: dict[str, Counter[str]] = field(default_factory=dict)
    good: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    took: list[Slow] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # bytes, once a second


def fuzzed(intact: list[Seed], digit: bytes, seed: int, number: int) -> Fuzzed:
    """The `number`th request of a seed."""
    chance = random.Random(f"{seed}/{number}/door")
    image = mutated(intact, seed, number)
    door = chance.choice(list(DOORS))
    request = DOORS[door](image.data, digit)
    if chance.randrange(_BODY_EVERY) == 0:
        request = request._replace(body=damaged_body(request.body, chance), beside_a_digit=False)
    return Fuzzed(image.format, door, request)


async def measure_fuzz(service: OwnService, digit: Digit, count: int, seed: int, connections: int = 16) -> Result:
    """Send `count` damaged requests, and `digit` in between; then the slowest again. The service has gRPC's door."""
    fuzz, intact = Fuzz(), seeds()
    target = Target("mixer", service.url, "raw", service.metrics_url, service.pid)
    server = ServerSide(target, fuzz.memory)
    started = time.perf_counter()
    async with sender(service) as to:

        async def send(number: int) -> None:
            await to.send(fuzzed(intact, digit.data, seed, number).request)

        watching = asyncio.create_task(server.watch_memory())
        numbers = iter(range(count))
        await asyncio.gather(*(_client(to, fuzz, intact, digit, seed, numbers) for _ in range(connections)))
        seconds = time.perf_counter() - started
        watching.cancel()
        slowest = nlargest(min(_MOST_COSTLY, max(5, int(_COSTLY * count))), fuzz.took)
        described = {number: fuzzed(intact, digit.data, seed, number) for _, number in slowest}
        costs = await cost_rows(service.pid, [(n, f"{it.format}, {it.door}") for n, it in described.items()], send)
        lost = totals((await server.snapshot()).metrics).get("mixer_lane_restarts_total", 0.0)
    server.close()
    return Result(
        {
            "rows": [_row(fuzz, count, seed, seconds, int(lost))],
            "the costliest": costs,
            "by format": _counted("format", fuzz.by_format),
            "by door": _counted("door", fuzz.by_door),
            "memory": memory_rows(fuzz.memory),
        },
        NOTES,
    )


async def _client(to: Sender, fuzz: Fuzz, intact: list[Seed], digit: Digit, seed: int, numbers: Iterator[int]) -> None:
    for number in numbers:
        await _send_damaged(to, fuzz, fuzzed(intact, digit.data, seed, number), digit, number)
        if number % _GOOD_EVERY == 0:
            status, body, _ = await to.send(DOORS["raw"](digit.data, b""))
            fuzz.good[_judged(status, body, digit)] += 1


async def _send_damaged(to: Sender, fuzz: Fuzz, damaged: Fuzzed, digit: Digit, number: int) -> None:
    while True:
        status, body, seconds = await to.send(damaged.request)
        if status not in FULL:
            break
        fuzz.statuses[f"{status}, sent again"] += 1
        await asyncio.sleep(0.1)
    fuzz.statuses[status] += 1
    fuzz.by_format.setdefault(damaged.format, Counter())[status] += 1
    fuzz.by_door.setdefault(damaged.door, Counter())[status] += 1
    fuzz.took.append(Slow(seconds, number))
    if status not in _EXPECTED:
        fuzz.unexpected.append(f"{number}: {status}")
    if damaged.request.beside_a_digit:
        fuzz.good[_judged(status, body, digit)] += 1


def _judged(status: str, body: bytes, digit: Digit) -> str:
    """Whether the digit, alone or as the last image of a form, has its right answer."""
    if status != "200":
        return status
    answer = json.loads(body)
    last = answer["results"][-1] if "results" in answer else answer
    if "predictions" not in last:
        return f"an error: {last['error']['code']}"
    return "right" if last["predictions"][0]["index"] == digit.answer else "wrong"


def _row(fuzz: Fuzz, count: int, seed: int, seconds: float, lost: int) -> Row:
    return {
        "requests": count,
        "seed": seed,
        "seconds": round(seconds),
        "answers": dict(sorted(fuzz.statuses.items())),
        "unexpected": ", ".join(fuzz.unexpected) or "none",
        "digits": dict(fuzz.good),
        "lanes lost": lost,
        "slowest s": round(max(fuzz.took).seconds, 2),
        "peak PSS MiB": round(max(fuzz.memory) / 2**20) if fuzz.memory else None,
        "memory growth %": None if (growth := memory_growth(fuzz.memory)) is None else round(100 * growth, 1),
    }


def _counted(name: str, counts: dict[str, Counter[str]]) -> list[Row]:
    return [{name: what, "answers": dict(count)} for what, count in sorted(counts.items())]
