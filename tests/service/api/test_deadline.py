import asyncio

import pytest

from service.errors import ClientGone, DeadlineExceeded
from service.scheduling.deadline import deadline, unless_client_leaves

pytestmark = pytest.mark.anyio


async def test_a_block_in_time_is_left_alone() -> None:
    async with deadline(asyncio.get_running_loop().time() + 60):
        pass


async def test_a_block_past_its_deadline_is_cancelled() -> None:
    with pytest.raises(DeadlineExceeded):
        async with deadline(asyncio.get_running_loop().time() - 1):
            await asyncio.Event().wait()


async def test_a_timeout_of_the_blocks_own_is_not_mistaken_for_the_deadline() -> None:
    with pytest.raises(ZeroDivisionError):
        async with deadline(asyncio.get_running_loop().time() + 60):
            raise ZeroDivisionError


async def stays() -> dict[str, str]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_work_for_a_client_that_stays_is_answered() -> None:
    async def work() -> int:
        return 7

    assert await unless_client_leaves(stays, work()) == 7


async def test_work_that_fails_fails() -> None:
    async def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await unless_client_leaves(stays, work())


async def test_work_for_a_client_that_leaves_is_cancelled() -> None:
    """Other messages, such as an empty last chunk, are no departure."""
    messages = iter(["http.request", "http.request", "http.disconnect"])
    cancelled = asyncio.Event()

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ClientGone):
        await unless_client_leaves(receive, work())
    assert cancelled.is_set()
    assert next(messages, None) is None
