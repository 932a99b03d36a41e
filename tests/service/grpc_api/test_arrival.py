import asyncio

import pytest

from service.errors import Overloaded, RequestTimeout

pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")

from service.grpc_api.arrival import Arrivals

pytestmark = pytest.mark.anyio

NEVER = 3600.0  # seconds


class Sending:
    """A call whose message is here once it is sent."""

    def __init__(self, arrivals: Arrivals) -> None:
        self.read_at_last = asyncio.Event()
        self._sent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.receiving = asyncio.create_task(arrivals.receive(self))

    async def read(self) -> bytes:
        self.read_at_last.set()
        return await self._sent

    def send(self) -> None:
        self._sent.set_result(b"message")


async def calls(arrivals: Arrivals, count: int) -> list[Sending]:
    """So many, one after the other."""
    begun = []
    for _ in range(count):
        begun.append(Sending(arrivals))
        await asyncio.sleep(0)
    return begun


async def test_the_last_to_come_is_read_first() -> None:
    first, second, third = await calls(Arrivals(1, 1, 10, NEVER), 3)
    for now, later in ((first, (second, third)), (third, (second,)), (second, ())):
        await now.read_at_last.wait()
        assert not any(call.read_at_last.is_set() for call in later)
        now.send()
        assert await now.receiving == b"message"


async def test_of_more_than_may_wait_who_waits_for_the_longest_is_refused() -> None:
    first, second, third, fourth = await calls(Arrivals(1, 1, 2, NEVER), 4)
    with pytest.raises(Overloaded) as refused:
        await second.receiving
    assert (refused.value.reason, refused.value.retry_after) == ("inflight_bytes", 1)
    for call in (first, fourth, third):
        call.send()
        assert await call.receiving == b"message"


async def test_who_leaves_takes_nobodys_place() -> None:
    arrivals = Arrivals(2, 1, 10, NEVER)
    first, second, third, fourth, fifth = await calls(arrivals, 5)
    fifth.receiving.cancel()  # while it waits
    first.send()
    await fourth.read_at_last.wait()
    second.receiving.cancel()  # while it sends
    await third.read_at_last.wait()
    for call in (third, fourth):
        call.send()
        assert await call.receiving == b"message"
    one, other = await calls(arrivals, 2)
    assert one.read_at_last.is_set()
    assert other.read_at_last.is_set()
    for call in (one, other):
        call.receiving.cancel()


async def test_who_is_let_in_and_leaves_at_once_passes_the_place_on() -> None:
    first, second, third = await calls(Arrivals(1, 1, 10, NEVER), 3)
    first.send()
    await first.receiving
    third.receiving.cancel()  # as it is told that it is its turn
    second.send()
    assert await second.receiving == b"message"


async def test_who_stalls_makes_room_only_for_whoever_waits() -> None:
    arrivals = Arrivals(2, 1, 10, 0.01)
    first, second = await calls(arrivals, 2)
    await asyncio.sleep(0.05)
    assert not first.receiving.done()
    (third,) = await calls(arrivals, 1)
    with pytest.raises(RequestTimeout, match="while others waited"):
        await first.receiving
    await third.read_at_last.wait()
    for call in (second, third):
        call.send()
        assert await call.receiving == b"message"
