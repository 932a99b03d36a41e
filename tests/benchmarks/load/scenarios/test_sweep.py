import pytest

from benchmarks.load.result import Run
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.scenarios.sweep import knee, sweep
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from tests.benchmarks.load.fake_server import fake_server
from tests.benchmarks.load.runs import make_run


def _swept(offered: float, good: float, p50: float | None) -> Run:
    return make_run(offered_images_per_second=offered, good_images_per_second=good, p50=p50)


def test_the_knee_is_where_power_is_greatest() -> None:
    runs = [_swept(100, 100, 10), _swept(200, 200, 12), _swept(300, 300, 40), _swept(400, 250, 900)]
    assert knee(runs) == 200
    assert knee([]) is None
    assert knee([_swept(100, 0, None)]) is None


@pytest.mark.anyio
async def test_every_repeat_has_the_same_rates() -> None:
    async with fake_server() as fake:
        fake.one_at_a_time()
        fake.seconds = 0.01
        session = Session(Target("fake", fake.url, "raw"), Options([b"x"], 0.5, 0.1, quiet=True))
        parameters = Parameters(sweep=(0.2, 0.4))
        await sweep(session, parameters, 0)
        await sweep(session, parameters, 1)
    capacity = session.findings["sweep capacity"]
    assert capacity is not None
    assert 30 < capacity <= 102
    rates = [(run.repeat, run.offered_images_per_second) for run in session.runs if run.scenario == "sweep"]
    assert rates == [(repeat, share * capacity) for repeat in (0, 1) for share in (0.2, 0.4)]
    assert session.findings["knee"] in (0.2 * capacity, 0.4 * capacity)
