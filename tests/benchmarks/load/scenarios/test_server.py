import importlib
import math

import pytest

from benchmarks.load.result import Run
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.scenarios.server import Verdict, highest_rate, server, verdict
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from tests.benchmarks.load.fake_server import fake_server
from tests.benchmarks.load.runs import make_run

MODULE = importlib.import_module("benchmarks.load.scenarios.server")  # the package has a function of that name


@pytest.mark.parametrize(
    ("missed", "queries", "said"),
    [
        (0, 0, "open"),
        (0, 298, "open"),  # 0.99 ** 298 > 0.05
        (0, 299, "holds"),
        (1, 1, "fails"),
        (1, 299, "open"),
        (10, 1000, "open"),  # just as many as may
        (2, 1000, "holds"),
        (30, 1000, "fails"),
        (300, 300, "fails"),
    ],
)
def test_a_verdict_needs_confidence(missed: int, queries: int, said: str) -> None:
    assert verdict(missed, queries) == said


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [3, 41.5, 100, 140, 149])
@pytest.mark.parametrize("beyond", ["fails", "open"])
@pytest.mark.parametrize("resolution", [0.05, 0.01])
async def test_the_limit_is_found_to_the_resolution(limit: float, beyond: Verdict, resolution: float) -> None:
    tried: list[float] = []

    async def trial(rate: float) -> Verdict:
        tried.append(rate)
        return "holds" if rate <= limit else beyond

    found = await highest_rate(trial, 150, resolution)
    assert found is not None
    assert limit / (1 + resolution) <= found <= limit
    assert len(tried) <= math.log2(150 / 3) + math.log2(math.log(2) / math.log(1 + resolution)) + 3


@pytest.mark.anyio
async def test_nothing_holds() -> None:
    async def trial(_: float) -> Verdict:
        return "fails"

    assert await highest_rate(trial, 150, 0.05) is None


@pytest.mark.anyio
async def test_a_server_that_works_on_one_at_a_time_has_a_limit_below_its_capacity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.load.figures._LATE_MS", 100)  # a test's machine may be busy
    async with fake_server() as fake:
        fake.one_at_a_time()
        fake.seconds = 0.005  # two hundred a second at most
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 1, 0.2, objective_ms=300, quiet=True))
        await server(session, Parameters(resolution=0.5), 0)
        rate = session.findings["server rate"]
        await server(session, Parameters(resolution=0.5), 1)
    assert rate is not None
    assert 20 < rate < 200
    assert session.findings["server rate"] == rate  # searched for once
    at_the_rate = [run for run in session.runs if run.scenario == "server"]
    assert [(run.repeat, run.offered_images_per_second) for run in at_the_rate] == [(0, rate), (1, rate)]


@pytest.mark.anyio
async def test_a_server_that_never_holds_the_objective_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_LOWEST", 0.2)  # gives up after a few trials
    async with fake_server() as fake:
        fake.seconds = 0.1
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 0.2, 0.05, objective_ms=50, quiet=True))
        await server(session, Parameters(), 0)
    assert session.findings["server rate"] is None
    assert not [run for run in session.runs if run.scenario == "server"]


@pytest.mark.anyio
async def test_trials_that_the_generator_spoiled_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.figures._BUSY", 0.0)
    monkeypatch.setattr(MODULE, "_TRIES", 1)
    monkeypatch.setattr(MODULE, "_LOWEST", 0.2)  # gives up after a few trials
    async with fake_server() as fake:
        fake.one_at_a_time()
        fake.seconds = 0.001
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 0.1, 0.05, quiet=True))
        await server(session, Parameters(), 0)
    trials = [run for run in session.runs if run.scenario == "search"]
    assert session.findings["server rate"] is None
    assert session.findings["invalid trials"] == len(trials) > 0
    assert all(run.invalid for run in trials)


@pytest.mark.anyio
async def test_a_trial_that_was_disturbed_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that holds 150/s, and a generator that something disturbs whenever a rate is new to it."""
    session = Session(Target("fake", "http://127.0.0.1:1", "raw"), Options([b"x"], quiet=True))

    async def closed(*_: object) -> Run:
        return make_run(scenario="capacity", images_per_second=100.0, clients=32)

    async def opened(scenario: str, repeat: int, rate: float, **_: object) -> Run:
        new = rate not in [run.offered_images_per_second for run in session.runs]
        missed = 0 if rate <= 150 else 1000
        run = make_run(scenario=scenario, offered_images_per_second=rate, queries=1000, missed=missed)
        session.runs.append(run.model_copy(update={"invalid": ["disturbed"] if new else []}))
        return session.runs[-1]

    monkeypatch.setattr(session, "closed", closed)
    monkeypatch.setattr(session, "open", opened)
    await server(session, Parameters(resolution=0.5), 0)
    rate = session.findings["server rate"]
    assert rate is not None and 100 <= rate <= 150
    searched = [run for run in session.runs if run.scenario == "search"]
    assert session.findings["invalid trials"] == len(searched) / 2


@pytest.mark.anyio
async def test_a_rate_that_is_given_is_not_searched_for() -> None:
    async with fake_server() as fake:
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 0.5, 0.1, quiet=True))
        await server(session, Parameters(rate=50), 0)
    assert [(run.scenario, run.offered_images_per_second) for run in session.runs] == [("server", 50)]
