import time
from collections.abc import Callable

import pytest

from benchmarks.engine.rounds import interleaved_rates, passes_per_second


class Clock:
    """Nothing but the passes themselves moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def passes(self, name: str, *durations: float) -> Callable[[], None]:
        """A run whose passes take `durations` in turn; the last one is repeated."""
        remaining = list(durations)

        def run() -> None:
            self.ran.append(name)
            self.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(("seconds", "rate"), [(2, 2), (0.1, 2), (1.2, 2)])
def test_the_rate_is_passes_over_the_time_they_took(clock: Clock, seconds: float, rate: float) -> None:
    assert passes_per_second(clock.passes("steady", 0.5), seconds) == rate


def test_the_first_pass_is_not_counted(clock: Clock) -> None:
    assert passes_per_second(clock.passes("cold", 100, 0.25, 0.25, 0.5), 1) == 3


def test_rounds_are_interleaved_and_every_other_goes_backwards(clock: Clock) -> None:
    passes = {name: clock.passes(name, 1) for name in "abc"}
    interleaved_rates(passes, rounds=3, seconds=0.5, name="")
    assert "".join(clock.ran) == "aabbcc" + "ccbbaa" + "aabbcc"


def test_every_round_gives_its_own_figure(clock: Clock) -> None:
    passes = {"drifts": clock.passes("drifts", 9, 0.5, 9, 0.25, 9, 2), "steady": clock.passes("steady", 1)}
    rates = interleaved_rates(passes, rounds=3, seconds=0.1, name="")
    assert rates == {"drifts": [2, 4, 0.5], "steady": [1, 1, 1]}
