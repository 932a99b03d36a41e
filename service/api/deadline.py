"""The end of the wait for something that a client has to send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DeadlineExceeded


@asynccontextmanager
async def deadline(at: float) -> AsyncIterator[None]:
    """Cancel the block at loop time `at`, and raise DeadlineExceeded, which says that it was the upload."""
    try:
        async with asyncio.timeout_at(at):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed while the request was still being sent", reason="upload") from None
