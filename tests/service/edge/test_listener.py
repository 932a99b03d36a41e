"""Who is let in: not those who are gone before it is their turn."""

import asyncio
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.edge import listener as listening
from service.edge.listener import _LOOKED_AT, _MOST_PARTED, Listener
from service.metrics import Metrics

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has closed its side")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset at once


class Greeter(asyncio.Protocol):
    def __init__(self, greeted: list[asyncio.Transport]) -> None:
        self.greeted = greeted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.greeted.append(transport)
        transport.write(b"in")


async def let_in(leavers: int, *, resets: bool) -> int:
    """How many are, of those who have sent something and left before the door opens, and one who stays."""
    greeted: list[asyncio.Transport] = []
    bound = socket.create_server(("127.0.0.1", 0), backlog=256)
    bound.setblocking(False)
    for _ in range(leavers):
        with socket.create_connection(bound.getsockname()) as leaver:
            leaver.sendall(b"whole")
            if resets:
                leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    reader, writer = await asyncio.open_connection(*bound.getsockname())
    listener = Listener(bound, lambda: Greeter(greeted), lambda: None, Metrics().connections_ended)
    listener.open(256)
    try:
        assert await asyncio.wait_for(reader.readexactly(2), 30) == b"in"
    finally:
        await listener.close()
        writer.close()
        for transport in greeted:
            transport.close()
        await asyncio.sleep(0)
    return len(greeted)


def test_who_was_reset_while_it_waited_costs_nothing() -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(let_in(100, resets=True)) == 1


def test_who_left_after_its_request_is_served() -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(let_in(10, resets=False)) == 11


async def order_of(leavers: int, served: int) -> list[bytes]:
    """What `served` of them had sent, as they were let in: those who closed their side before, and one who waits."""
    greeted: list[bytes] = []

    class Noting(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            greeted.append(data)

    bound = socket.create_server(("127.0.0.1", 0), backlog=256)
    bound.setblocking(False)
    for number in range(leavers):
        with socket.create_connection(bound.getsockname()) as leaver:
            leaver.sendall(b"%d" % number)
    with socket.create_connection(bound.getsockname()) as waits:
        waits.sendall(b"waits")
        listener = Listener(bound, Noting, lambda: None, Metrics().connections_ended)
        listener.open(256)
        async with asyncio.timeout(30):
            while len(greeted) < served:
                await asyncio.sleep(0)
        await listener.close()
    return greeted


@ONLY_LINUX
@pytest.mark.parametrize("leavers", [_MOST_PARTED, 3 * _MOST_PARTED, 3 * _LOOKED_AT])
def test_who_closed_its_side_is_served_after_who_waits_and_of_many_the_last(leavers: int) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        order = runner.run(order_of(leavers, 1 + _MOST_PARTED))
    assert order == [b"waits", *(b"%d" % number for number in range(leavers - _MOST_PARTED, leavers))]


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class HalfClosed:
    """Clients who have sent their number and closed their side before the door opens, and still wait for an answer."""

    def __init__(self, count: int, opened: ExitStack) -> None:
        self._metrics = Metrics()
        self.asked_for_room = 0
        bound = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        bound.setblocking(False)
        self._clients = [opened.enter_context(socket.create_connection(bound.getsockname())) for _ in range(count)]
        for number, client in enumerate(self._clients):
            client.sendall(b"%d" % number)
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
        self.listener = Listener(bound, Echo, self._make_room, self._metrics.connections_ended)

    def _make_room(self) -> None:
        self.asked_for_room += 1

    async def served(self) -> list[int]:
        """Who got an answer; everybody else's connection was closed, and counted."""
        served = [number for number, client in enumerate(self._clients) if await _answer(client) == b"%d" % number]
        labels = {"reason": "half_closed"}
        dropped = self._metrics.registry.get_sample_value("mixer_connections_ended_total", labels)
        assert dropped == len(self._clients) - len(served)
        return served


async def _answer(client: socket.socket) -> bytes:
    try:
        async with asyncio.timeout(30):
            return await asyncio.get_running_loop().sock_recv(client, 9)
    except ConnectionError:
        return b""


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """No more than so many, for the whole process."""
    free = [os.dup(0) for _ in range(count)]  # the lowest
    for descriptor in free:
        os.close(descriptor)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@ONLY_LINUX
@pytest.mark.anyio
async def test_of_too_many_who_closed_their_side_the_longest_waiting_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "_MOST_PARTED", 20)
    with ExitStack() as opened:
        clients = HalfClosed(50, opened)
        clients.listener.open(256)
        assert await clients.served() == list(range(30, 50))
        await clients.listener.close()


@ONLY_LINUX
@pytest.mark.anyio
async def test_where_descriptors_run_out_who_closed_its_side_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "_REST_SECONDS", 0.01)
    with ExitStack() as opened:
        clients = HalfClosed(10, opened)
        with descriptors_left(4):
            clients.listener.open(256)
            assert await clients.served() == [8, 9]
        assert clients.asked_for_room == 2 * listening._AT_ONCE
        await clients.listener.close()


@ONLY_LINUX
@pytest.mark.anyio
async def test_who_closed_its_side_is_served_though_the_door_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_HANDSHAKE_SECONDS", 0)
    with ExitStack() as opened:
        clients = HalfClosed(_MOST_PARTED, opened)
        clients.listener.open(256)
        await clients.listener.close()
        assert await clients.served() == list(range(_MOST_PARTED))
