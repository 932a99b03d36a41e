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
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        raise ClientGone("the client left before its answer")
    finally:
        leaving.cancel()
        if not answering.done():
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
