"""Fixtures that every part of the suite shares."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

import service  # noqa: F401 - opts out of onnxruntime's telemetry before any test imports it
from tests.debian import debian_program

# Beside each other, these would disturb each other: what measures latencies; what needs the one Docker engine.
ONE_AT_A_TIME = ("tests/benchmarks/", "tests/deploy/")


class ByFile(LoadFileScheduling):
    """Where several processes share the tests: each file's run in one, which has its fixtures, and some folders' too."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in ONE_AT_A_TIME if nodeid.startswith(folder)), super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker."""
    return debian_program("promtool", "prometheus")
