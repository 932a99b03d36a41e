from collections.abc import Callable
from dataclasses import dataclass

import pytest

from benchmarks.load.result import Run
from benchmarks.load.scenarios.closed_loop import capacity, offline
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from tests.benchmarks.load.runs import make_run

pytestmark = pytest.mark.anyio


@dataclass
class _Measured(Session):
    """So many clients get so many images a second."""

    rate: Callable[[int], float] = float
    valid_up_to: float = float("inf")  # clients

    async def closed(self, scenario: str, repeat: int, clients: int, images_per_query: int = 1) -> Run:
        invalid = ["the generator was late"] if clients > self.valid_up_to else []
        changes = {"images_per_second": self.rate(clients), "invalid": invalid}
        self.runs.append(make_run(scenario=scenario, repeat=repeat, clients=clients, **changes))
        return self.runs[-1]


def _measured(rate: Callable[[int], float], valid_up_to: float = float("inf")) -> _Measured:
    return _Measured(Target("made up", "http://h", "raw"), Options([]), rate=rate, valid_up_to=valid_up_to)


@pytest.mark.parametrize(
    ("rate", "valid_up_to", "tried", "best"),
    [
        (lambda clients: 100.0, 2000, [32, 64], 32),
        (lambda clients: min(clients, 100) * 5.0, 2000, [32, 64, 128, 256], 128),
        (lambda clients: {32: 100.0, 64: 104.9}[clients], 2000, [32, 64], 32),
        (lambda clients: {32: 100.0, 64: 105.1, 128: 50.0}[clients], 2000, [32, 64, 128], 64),
        (float, 2000, [32, 64, 128, 256, 512, 1024], 1024),
        (float, 64, [32, 64, 128], 64),
        (float, 0, [32, 64], 32),  # there is nothing better
    ],
)
async def test_clients_double_until_that_brings_no_more(
    rate: Callable[[int], float], valid_up_to: float, tried: list[int], best: int
) -> None:
    session = _measured(rate, valid_up_to)
    assert await capacity(session, 0) == rate(best)
    assert [(run.scenario, run.clients) for run in session.runs] == [("capacity", clients) for clients in tried]
    assert session.findings == {"capacity": rate(best), "clients at capacity": best}


async def test_this_repeat_s_runs_of_that_many_are_not_run_again() -> None:
    session = _measured(lambda _: 100.0)
    await offline(session, Parameters(clients=(8, 32)), 0)
    await capacity(session, 0)
    await capacity(session, 0)
    await capacity(session, 1)
    first = [("offline", 0, 8), ("offline", 0, 32), ("capacity", 0, 64)]
    again = [("capacity", 1, 32), ("capacity", 1, 64)]
    assert [(run.scenario, run.repeat, run.clients) for run in session.runs] == first + again
