"""What a long run has beside its load: slow clients, and of a service that was started here lost lanes and reloads."""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load.target import Target
from benchmarks.robustness.processes import hit_a_lane

_CLIENTS = 4  # who write slowly, and as many who read slowly
_PIECES, _PIECE_EVERY = 20, 0.1  # of a request that is written slowly, seconds
_PIPELINED, _READ_BYTES, _READ_EVERY = 8, 256, 0.1  # requests at once, and how their answers are read
_PATIENCE = 60.0  # seconds
_REST = 0.2  # seconds
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3})")


@asynccontextmanager
async def disturbed(target: Target, request: bytes, every: float) -> AsyncIterator[Counter[str]]:
    """Disturb it for the length of the block, with this request; yields what happened how often.

    A lane is killed and the model is loaded anew each `every` seconds, where the service was started here.
    """
    seen: Counter[str] = Counter()
    clients: list[Callable[[], Awaitable[None]]] = [
        lambda: _write_slowly(target.url, request, seen),
        lambda: _read_slowly(target.url, request, seen),
    ]
    tasks = [asyncio.create_task(_again(client, _REST)) for client in clients for _ in range(_CLIENTS)]
    if target.pid and target.bundle:
        front, bundle = target.pid, target.bundle
        hits: list[Callable[[], Awaitable[None]]] = [
            lambda: _kill_a_lane(front, seen),
            lambda: _load_anew(front, bundle, seen),
        ]
        tasks += [asyncio.create_task(_again(hit, every, first=every * (1 + k) / 2)) for k, hit in enumerate(hits)]
    try:
        yield seen
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _again(work: Callable[[], Awaitable[None]], rest: float, first: float = 0.0) -> None:
    await asyncio.sleep(first)
    while True:
        await work()
        await asyncio.sleep(rest)


async def _write_slowly(url: str, request: bytes, seen: Counter[str]) -> None:
    """One request in twenty pieces over two seconds."""
    status = "lost"
    with suppress(OSError, EOFError):
        async with asyncio.timeout(_PATIENCE), _connected(url) as (reader, writer):
            size = -(-len(request) // _PIECES)
            for start in range(0, len(request), size):
                writer.write(request[start : start + size])
                await writer.drain()
                await asyncio.sleep(_PIECE_EVERY)
            status = (await reader.readuntil(b"\r\n")).split()[1].decode()
    seen[f"slow writers: {status}"] += 1


async def _read_slowly(url: str, request: bytes, seen: Counter[str]) -> None:
    """Eight requests at once, whose answers are read by 256 bytes ten times a second."""
    received = b""
    with suppress(OSError):
        async with asyncio.timeout(_PATIENCE), _connected(url) as (reader, writer):
            writer.write(_PIPELINED * request)
            while len(_ANSWER.findall(received)) < _PIPELINED and (piece := await reader.read(_READ_BYTES)):
                received += piece
                await asyncio.sleep(_READ_EVERY)
    answers = [status.decode() for status in _ANSWER.findall(received)]
    seen.update(f"slow readers: {status}" for status in [*answers, *["lost"] * (_PIPELINED - len(answers))])


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None, limit=4096
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _kill_a_lane(front: int, seen: Counter[str]) -> None:
    seen["lanes killed"] += await asyncio.to_thread(hit_a_lane, front, signal.SIGKILL)


async def _load_anew(front: int, bundle: Path, seen: Counter[str]) -> None:
    """Have another version of the manifest, which says the same in other white space, and the service look."""
    manifest, new = bundle / "manifest.json", bundle / ".manifest.json"
    indent = 3 if seen["reloads asked for"] % 2 else 4
    new.write_text(json.dumps(json.loads(manifest.read_text()), indent=indent))
    new.rename(manifest)
    os.kill(front, signal.SIGHUP)
    seen["reloads asked for"] += 1
