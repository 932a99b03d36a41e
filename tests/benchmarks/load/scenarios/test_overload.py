import asyncio
import importlib

import pytest

from benchmarks.load.scenarios.overload import overload
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from tests.benchmarks.load.fake_server import fake_server


@pytest.mark.anyio
async def test_twice_the_capacity_is_asked_for_and_recovery_takes_as_long_as_the_backlog() -> None:
    async with fake_server() as fake:
        fake.one_at_a_time()
        fake.seconds = 0.02  # 50 a second at most
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 1, 0.2, objective_ms=200, quiet=True))
        await overload(session, Parameters(factor=2), 0)
    *found, run = session.runs
    assert [run.scenario for run in session.runs] == [*["capacity"] * len(found), "overload"]
    assert run.offered_images_per_second == 2 * (session.findings["capacity"] or 0)
    assert run.images_per_second <= 51
    assert run.good_images_per_second < run.images_per_second
    # A second of twice the capacity leaves one of work.
    assert run.recovery_seconds is not None
    assert run.recovery_seconds > 0.3


@pytest.mark.anyio
async def test_a_server_that_does_not_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("benchmarks.load.scenarios.overload")  # the package has a function of that name
    monkeypatch.setattr(module, "_LONGEST_RECOVERY", 0.5)
    async with fake_server() as fake:
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 1, 0.2, quiet=True))
        running = asyncio.ensure_future(overload(session, Parameters(rate=50), 0))
        await asyncio.sleep(0.7)
        fake.seconds = 0.2  # from now on
        await running
    assert session.runs[0].recovery_seconds is None


@pytest.mark.anyio
async def test_without_a_good_answer_there_is_no_capacity() -> None:
    async with fake_server() as fake:
        session = Session(Target("fake", fake.url, "raw"), Options([b"refuse"], 0.5, 0.1, quiet=True))
        with pytest.raises(ValueError, match=r"32 clients got no good answer, but \{'429': \d+\}"):
            await overload(session, Parameters(), 0)
