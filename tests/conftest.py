"""Fixtures that every part of the suite shares."""

import pytest

import service  # noqa: F401 - opts out of onnxruntime's telemetry before any test imports it


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
