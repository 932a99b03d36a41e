"""Each fault reaches its server, comes again when it is cut off, and ends when it is told to."""

import asyncio

import pytest

from benchmarks.robustness.faults import FAULTS, Aim

MOST = {"many connections": 1010, "slow heads": 200, "unread answers": 100}  # side by side; of others fewer
SAYS_NOTHING = "many connections"


class Hangup:
    """A server that cuts off whoever comes, or whoever speaks."""

    def __init__(self, at_once: bool) -> None:
        self.came = asyncio.Semaphore(0)
        self.nobody = asyncio.Event()
        self._at_once = at_once
        self._open = 0

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._at_once)

    def count(self, change: int) -> None:
        self._open += change
        (self.nobody.clear if self._open else self.nobody.set)()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Hangup, at_once: bool) -> None:
        self._server, self._at_once = server, at_once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.count(1)
        if self._at_once:
            self._server.came.release()
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._server.came.release()
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.count(-1)


@pytest.mark.anyio
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_comes_again_until_it_is_cancelled(name: str) -> None:
    hangup = Hangup(at_once=name == SAYS_NOTHING)
    async with await asyncio.get_running_loop().create_server(hangup, "127.0.0.1", 0, backlog=2000) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/classify"
        causing = asyncio.ensure_future(FAULTS[name](Aim(url, {"x-api-key": "key"})))
        async with asyncio.timeout(60):
            for _ in range(MOST.get(name, 32) + 5):
                await hangup.came.acquire()
        causing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await causing
    async with asyncio.timeout(60):
        await hangup.nobody.wait()
