"""Fixtures that every part of the suite shares."""

import importlib
import os
from contextlib import suppress
from pathlib import Path

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

import service  # noqa: F401 - opts out of onnxruntime's telemetry before any test imports it
from tests.debian import debian_program

# Of each the tests run one after the other: two measurements would disturb each other, and there is one Docker engine.
IN_ONE_PROCESS = ("tests/benchmarks/", "tests/deploy/")

# Of httpx's own, which is five seconds: on a busy machine a good answer may take longer.
DEFAULT_TIMEOUT_CONFIG.connect = DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.write = 60


class ByFile(LoadFileScheduling):
    """Which tests go to the same process, where there are several: a file's, for its fixtures, and some folders'.

    They begin in the order of their names: the longest, benchmarks, deploy and e2e, before the many short ones.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in IN_ONE_PROCESS if nodeid.startswith(folder)), super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Of several processes each begins to import the tests elsewhere.

    In a fresh checkout nothing is compiled: what one has compiled the others find, and they need not all compile all.
    """
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        files = sorted(file.relative_to(session.config.rootpath) for file in Path(__file__).parent.rglob("test_*.py"))
        first = len(files) * int(worker.removeprefix("gw")) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        for file in files[first:] + files[:first]:
            with suppress(Exception, pytest.skip.Exception):  # the collection tells of either
                importlib.import_module(".".join(file.with_suffix("").parts))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Binary data goes by its parameter: gzip's has the time in it, and every process must collect the same tests."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker."""
    return debian_program("promtool", "prometheus")
