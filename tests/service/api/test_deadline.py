import asyncio

import pytest

from service.api.deadline import deadline
from service.errors import DeadlineExceeded

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
