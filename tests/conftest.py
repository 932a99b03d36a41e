"""Fixtures that every part of the suite shares."""

import pytest

import service  # noqa: F401 - opts out of onnxruntime's telemetry before any test imports it
from tests.debian import debian_program


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker."""
    return debian_program("promtool", "prometheus")
