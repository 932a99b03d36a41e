"""A replica with an obvious answer and its client, for the tests of every route."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.models.replica import Replica
from tests.doubles import EchoEngine, replica_around
from tests.service.replicas import client_of


@pytest.fixture
async def replica(tmp_path: Path) -> Replica:
    return replica_around(EchoEngine(), tmp_path / "models", max_body_bytes=10_000, max_pixels=1000)


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(replica) as client:
        yield client
