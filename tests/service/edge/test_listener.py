"""Who is let in: not those who are gone before it is their turn."""

import asyncio
import socket
import struct
import sys

import pytest

from service.edge.listener import _LOOKED_AT, _MOST_PARTED, Listener

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
    listener = Listener(bound, lambda: Greeter(greeted), make_room=lambda: None)
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
        listener = Listener(bound, Noting, make_room=lambda: None)
        listener.open(256)
        async with asyncio.timeout(30):
            while len(greeted) < served:
                await asyncio.sleep(0)
        await listener.close()
    return greeted


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has closed its side")
@pytest.mark.parametrize("leavers", [_MOST_PARTED, 3 * _MOST_PARTED, 3 * _LOOKED_AT])
def test_who_closed_its_side_is_served_after_who_waits_and_of_many_the_last(leavers: int) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        order = runner.run(order_of(leavers, 1 + _MOST_PARTED))
    assert order == [b"waits", *(b"%d" % number for number in range(leavers - _MOST_PARTED, leavers))]
