import pytest

from benchmarks.robustness.memory import memory_growth, memory_rows


def test_growth_is_that_after_warming_up() -> None:
    assert memory_growth([100.0 if i < 10 else 200.0 for i in range(100)]) == pytest.approx(0)
    assert memory_growth([100.0 + i for i in range(100)]) == pytest.approx(194.5 / 114.5 - 1)
    assert memory_growth([100.0] * 9) is None


def test_about_twenty_rows_of_many_samples() -> None:
    rows = memory_rows([2.0**20] * 600)
    assert len(rows) == 20
    assert rows[1] == {"second": 30, "MiB": 1.0}
