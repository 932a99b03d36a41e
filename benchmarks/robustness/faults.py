"""Faults that clients cause from outside. Each goes on until it is cancelled, and opens again what is closed on it.

`python -m benchmarks.robustness.faults NAME URL [HEADER ...]` is one as a process of its own, so that what it costs
to cause it does not delay the good client that is watched beside it.
"""

import asyncio
import gzip
import io
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.load.connection import Connections
from benchmarks.photograph import photograph
from benchmarks.robustness.mutations import mutated, seeds

_PAUSE = 0.1  # seconds before a connection that was closed or refused is opened again
_PATIENCE = 10.0  # seconds for an answer
_LARGEST = 16 * 2**20  # bytes of a body, as the service's defaults have it


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@dataclass(frozen=True)
class Aim:
    """Whom a fault is for."""

    url: str  # of /v1/classify
    headers: dict[str, str]  # such as a key

    def request(self, method: str = "POST", body: bytes = b"", **headers: str) -> bytes:
        """A whole request; of names in `headers` the underscores stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Connections(self.url).request(method, {**self.headers, **named}, body)

    async def again_and_again(self, talk: Talk, clients: int, receive_bytes: int = 2**16) -> None:
        """So many clients side by side, each of which connects and talks, for ever; they read ahead so many bytes."""
        await asyncio.gather(*(self._again(talk, receive_bytes) for _ in range(clients)))

    async def _again(self, talk: Talk, receive_bytes: int) -> None:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None, limit=receive_bytes
                )
                try:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
                    await talk(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(_PAUSE)


Fault = Callable[[Aim], Awaitable[None]]


async def stalled_uploads(aim: Aim) -> None:
    """16 uploads of the largest size that come at 13 bytes a second."""
    head = aim.request(body=bytes(_LARGEST))[:-_LARGEST]

    async def upload(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(bytes(13))
            await writer.drain()
            await asyncio.sleep(1)

    await aim.again_and_again(upload, 16)


async def slow_heads(aim: Aim) -> None:
    """200 requests whose head comes at a byte a second."""
    head = aim.request("GET")

    async def ask(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place in range(len(head)):
            writer.write(head[place : place + 1])
            await writer.drain()
            await asyncio.sleep(1)

    await aim.again_and_again(ask, 200)


async def pipelining(aim: Aim) -> None:
    """8 connections that ask and ask, as fast as they can write, and read nothing."""
    many = aim.request("GET") * 1000

    async def ask(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(many)
            await writer.drain()

    await aim.again_and_again(ask, 8, receive_bytes=4096)


async def unread_answers(aim: Aim) -> None:
    """100 connections that ask for four answers each and read none for ten seconds."""
    four = 4 * aim.request(body=_png(64, 64))

    async def ask(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(four)
        await asyncio.wait_for(writer.wait_closed(), _PATIENCE)

    await aim.again_and_again(ask, 100, receive_bytes=4096)


async def damaged_images(aim: Aim) -> None:
    """8 clients whose images are damaged by chance, ten a second each."""
    intact, numbers = seeds(), iter(range(2**62))
    await _asking(aim, 8, lambda: aim.request(body=mutated(intact, 0, next(numbers)).data), rest=_PAUSE)


async def bulk_of_large_images(aim: Aim) -> None:
    """32 clients with 720p PNGs that are in no hurry."""
    request = aim.request(body=_png(1280, 720), x_priority="bulk", x_deadline_ms="30000")
    await _asking(aim, 32, lambda: request)


async def interactive_large_images(aim: Aim) -> None:
    """4 clients with 12-megapixel PNGs, as a telephone has them."""
    request = aim.request(body=_png(4000, 3000), x_deadline_ms="30000")
    await _asking(aim, 4, lambda: request)


async def gzip_forms(aim: Aim) -> None:
    """2 clients with gzip forms of megabytes that are nearly boundaries."""
    body = gzip.compress(b"--x\r\n" + b"\r\n--y" * 2_700_000 + b"\r\n--x--\r\n", 9)
    request = aim.request(body=body, content_type="multipart/form-data; boundary=x", content_encoding="gzip")
    await _asking(aim, 2, lambda: request)


async def many_connections(aim: Aim) -> None:
    """1,000 connections that are held without a word, and a hundred a second that come and go."""

    async def hold(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def go(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        pass

    await asyncio.gather(aim.again_and_again(hold, 1000), aim.again_and_again(go, round(100 * _PAUSE)))


async def leavers(aim: Aim) -> None:
    """16 clients who hang up before they are answered."""
    request, chance = aim.request(body=_png(640, 360)), random.Random(0)

    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(chance.uniform(0, 0.02))

    await aim.again_and_again(leave, 16)


FAULTS: dict[str, Fault] = {
    "stalled uploads": stalled_uploads,
    "slow heads": slow_heads,
    "pipelining without reading": pipelining,
    "unread answers": unread_answers,
    "damaged images": damaged_images,
    "bulk of large PNGs": bulk_of_large_images,
    "very large PNGs": interactive_large_images,
    "gzip forms": gzip_forms,
    "many connections": many_connections,
    "clients who leave": leavers,
}


async def _asking(aim: Aim, clients: int, next_request: Callable[[], bytes], rest: float = 0.0) -> None:
    """As many clients, each of which asks again once it is answered and has rested for so many seconds."""
    connections = Connections(aim.url)

    async def ask() -> None:
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    answer = await connections.ask(next_request())
            except OSError:
                await asyncio.sleep(_PAUSE)
            else:
                await asyncio.sleep(_PAUSE if answer.status in (429, 503) else rest)

    await asyncio.gather(*(ask() for _ in range(clients)))


def _png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    image = photograph(min(width, 1280), min(height, 960)).resize((width, height))  # a larger one takes seconds to make
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


if __name__ == "__main__":
    name, url, *headers = sys.argv[1:]
    print(name, flush=True)  # from now on
    asyncio.run(FAULTS[name](Aim(url, dict(header.split(":", 1) for header in headers))))  # type: ignore[arg-type]
