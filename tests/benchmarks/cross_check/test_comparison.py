import itertools
import random

import pytest

from benchmarks.cross_check.comparison import Comparison, Figures, median_interval


def test_rounds_take_turns_and_become_medians_of_their_ratios() -> None:
    order: list[str] = []
    ours = [Figures(100, p50_ms=10), Figures(200, p50_ms=10), Figures(95, p50_ms=None)]
    others = [Figures(100, p50_ms=20), Figures(200, p50_ms=8), Figures(100, p50_ms=10)]

    def measure(name: str, figures: list[Figures], turn: int) -> Figures:
        order.append(f"{name} {turn}")
        return figures[turn // 2]

    comparison = Comparison(
        "one client", "another", lambda n: measure("ours", ours, n), lambda n: measure("other", others, n)
    )
    for number in range(3):
        comparison.measure(number)
    assert order == [
        "ours 0", "other 0", "other 1", "ours 1",
        "other 2", "ours 2", "ours 3", "other 3",
        "ours 4", "other 4", "other 5", "ours 5",
    ]  # fmt: skip
    rate, p50 = comparison.rows()  # what only one has, or nobody, has no row
    assert (rate["figure"], rate["ours"], rate["other"], rate["ratio"]) == ("img/s", 100, 100, 1.0)
    assert (rate["of rounds"], rate["agrees within 10 %"]) == ("0.95 to 1.00", True)
    assert rate["95 % interval"] is None
    assert (p50["figure"], p50["ratio"], p50["agrees within 10 %"]) == ("p50 ms", 0.88, False)


def test_ten_percent_is_the_limit() -> None:
    for other, agrees in ((105.0, True), (95.0, True), (115.0, False), (85.0, False)):
        comparison = Comparison("", "", lambda _: Figures(100), lambda _, other=other: Figures(other))  # type: ignore[misc]
        comparison.measure(0)
        assert comparison.rows()[0]["agrees within 10 %"] is agrees


def test_a_machine_that_becomes_steadily_slower_is_no_difference() -> None:
    turns = itertools.count()
    rates = lambda _: Figures(100.0 - 5 * next(turns), p50_ms=10.0 + next(turns))  # noqa: E731
    comparison = Comparison("", "", rates, rates)
    for number in range(2):
        comparison.measure(number)
    assert [ours == pytest.approx(other) for ours, other in comparison.rounds] == [True, True]


def test_a_load_that_fails_keeps_the_rounds_it_had_and_is_not_tried_again() -> None:
    turns = itertools.count()

    def fails_in_the_second_round(_: int) -> Figures:
        if next(turns) == 3:
            raise OSError("no answer")
        return Figures(100)

    comparison = Comparison("", "", lambda _: Figures(100), fails_in_the_second_round)
    for number in range(4):
        comparison.measure(number)
    assert (len(comparison.rounds), comparison.failure, next(turns)) == (1, "no answer", 4)


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([], None),
        ([1.0] * 5, None),  # 1 of 16 such that all are on one side of the median
        ([3.0, 1.0, 2.0, 6.0, 5.0, 4.0], (1.0, 6.0)),
        ([float(i) for i in range(1, 10)], (2.0, 8.0)),
    ],
)
def test_the_interval_of_a_median(values: list[float], interval: tuple[float, float] | None) -> None:
    assert median_interval(values) == interval


def test_it_holds_the_median_as_often_as_it_says() -> None:
    chance = random.Random(0)
    drawn = [median_interval([chance.expovariate(1) for _ in range(9)]) for _ in range(2000)]
    held = sum(bool(it) and it[0] <= 0.6931 <= it[1] for it in drawn)  # an exponential's median is log 2
    assert 0.95 <= held / 2000 <= 0.975
