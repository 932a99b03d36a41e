import math
from dataclasses import replace

import pytest

from model_export.training.recipes import DIGITS, PAPER, SCRATCH
from model_export.training.schedule import learning_rate

STEPS = 10_000


def test_the_paper_fine_tunes_with_a_warm_up_and_a_cosine() -> None:
    rates = [learning_rate(PAPER, step, STEPS) for step in range(STEPS)]
    assert rates[0] == pytest.approx(0.03 / 500)
    assert rates[249] == pytest.approx(0.03 / 2)
    assert rates[499] == rates[500] == 0.03
    for step in (500, 2000, 5250, 9999):
        assert rates[step] == pytest.approx(0.015 * (1 + math.cos(math.pi * (step - 500) / 9500)), abs=1e-12)
    assert rates[5250] == pytest.approx(0.015)
    assert 0 < rates[-1] < 1e-8


def test_the_paper_pre_trains_with_a_warm_up_and_a_straight_line() -> None:
    steps = 100_000
    rates = [learning_rate(SCRATCH, step, steps) for step in (0, 4_999, 9_999, 10_000, 55_000, 99_999)]
    assert rates == pytest.approx([1e-7, 5e-4, 1e-3, 1e-3, 5e-4, 1e-3 / 90_000])


def test_a_short_run_warms_up_for_a_fifth_of_it() -> None:
    rates = [learning_rate(PAPER, step, 20) for step in range(20)]
    assert rates[:5] == pytest.approx([0.0075, 0.015, 0.0225, 0.03, 0.03])
    assert learning_rate(PAPER, 0, 1) == 0.03
    assert learning_rate(replace(PAPER, warmup_steps=0), 0, 20) == 0.03


def test_the_digits_warm_up_for_five_epochs_however_short_the_run() -> None:
    assert [learning_rate(DIGITS, step, 24) for step in (0, 23)] == pytest.approx([2e-3 / 60, 2e-3 * 24 / 60])
