from collections.abc import AsyncIterator

import pytest

from tests.service.edge.application import Application, serving


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with serving(Application()) as application:
        yield application


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves: it pauses, closes and aborts by rules of its own."""
    return "asyncio", {"use_uvloop": True}
