"""The end of the wait for something that a client has to send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DeadlineExceeded


@asynccontextmanager
async def deadline(at: float, upload: object = None) -> AsyncIterator[None]:
    """Cancel the block at loop time `at`, and raise DeadlineExceeded, which says that it was the upload.

    `upload` says in words how far it is.
    """
    try:
        async with asyncio.timeout_at(at):
            yield
    except TimeoutError:
        how_far = f": {upload}" if upload else ""
        message = f"the deadline passed while the request was still being sent{how_far}"
        raise DeadlineExceeded(message, reason="upload") from None
