from benchmarks.cross_check.comparison import Comparison, Figures


def test_rounds_take_turns_and_become_medians_of_their_ratios() -> None:
    order: list[str] = []
    ours = [Figures(100, p50_ms=10), Figures(200, p50_ms=10), Figures(95, p50_ms=None)]
    others = [Figures(100, p50_ms=20), Figures(200, p50_ms=8), Figures(100, p50_ms=10)]

    def measure(name: str, figures: list[Figures], number: int) -> Figures:
        order.append(f"{name} {number}")
        return figures[number]

    comparison = Comparison(
        "one client", "another", lambda n: measure("ours", ours, n), lambda n: measure("other", others, n)
    )
    for number in range(3):
        comparison.measure(number)
    assert order == ["ours 0", "other 0", "other 1", "ours 1", "ours 2", "other 2"]
    rate, p50 = comparison.rows()  # what only one has, or nobody, has no row
    assert (rate["figure"], rate["ours"], rate["other"], rate["ratio"]) == ("img/s", 100, 100, 1.0)
    assert (rate["of rounds"], rate["agrees within 10 %"]) == ("0.95 to 1.00", True)
    assert (p50["figure"], p50["ratio"], p50["agrees within 10 %"]) == ("p50 ms", 0.88, False)


def test_ten_percent_is_the_limit() -> None:
    for other, agrees in ((105.0, True), (95.0, True), (115.0, False), (85.0, False)):
        comparison = Comparison("", "", lambda _: Figures(100), lambda _, other=other: Figures(other))  # type: ignore[misc]
        comparison.measure(0)
        assert comparison.rows()[0]["agrees within 10 %"] is agrees
