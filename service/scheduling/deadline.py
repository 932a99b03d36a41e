"""What ends the wait for an answer before it is there: the deadline, or the client leaving."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.types import Receive

from service.errors import ClientGone, DeadlineExceeded

_T = TypeVar("_T")


@asynccontextmanager
async def deadline(at: float) -> AsyncIterator[None]:
    """Cancel the block at loop time `at`, which withdraws its ticket, and raise DeadlineExceeded."""
    try:
        async with asyncio.timeout_at(at):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before the answer was ready") from None


async def unless_client_leaves(receive: Receive, work: Coroutine[None, None, _T]) -> _T:
    """Run `work`; cancel it and raise ClientGone if the client closes its connection first.

    `receive` is the request's ASGI channel, its body already read.
    """
    task = asyncio.current_task()
    assert task
    working, left = True, False

    def leave(watching: asyncio.Future[None]) -> None:
        nonlocal left
        if working and not watching.cancelled():
            left = task.cancel()

    watching = asyncio.ensure_future(_disconnect(receive))
    watching.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:  # nobody else cancelled it
            raise ClientGone("the client left before its answer") from None
        raise
    finally:
        working = False
        watching.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
