from collections.abc import AsyncIterator

import pytest

from tests.service.edge.application import Application, serving


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with serving(Application()) as application:
        yield application
