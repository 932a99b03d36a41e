import math
from dataclasses import replace

import pytest

from model_export.training.recipes import PAPER, SCRATCH
from model_export.training.schedule import learning_rate, steps_for, validation_share_for, warmup_steps


def test_the_paper_fine_tunes_with_a_warm_up_and_a_cosine() -> None:
    """The figures of vit_jax's create_learning_rate_schedule(10_000, 0.03, "cosine", 500)."""
    rates = [learning_rate(PAPER, step, 10_000) for step in range(10_001)]
    assert rates[0] == 0
    assert rates[250] == pytest.approx(0.03 / 2)
    assert rates[499] == pytest.approx(0.03 * 499 / 500)
    assert rates[500] == max(rates) == 0.03
    for step in (500, 2000, 5250, 9999):
        assert rates[step] == pytest.approx(0.015 * (1 + math.cos(math.pi * (step - 500) / 9500)), abs=1e-12)
    assert rates[5250] == pytest.approx(0.015)
    assert rates[10_000] == pytest.approx(0, abs=1e-12)


def test_the_paper_pre_trains_with_a_warm_up_and_a_straight_line() -> None:
    """The figures of big_vision's mlp_mixer_i1k: 10,000 steps of warm-up, to a hundred-thousandth of the peak."""
    rates = [learning_rate(SCRATCH, step, 100_000) for step in (0, 5_000, 10_000, 55_000, 100_000)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5e-4 + 5e-9, 1e-8], rel=1e-6)


@pytest.mark.parametrize(
    ("images", "steps", "share", "warmup"),
    [
        pytest.param(180, 500, 0.1, 100, id="a small folder"),
        pytest.param(2_040, 500, 0.1, 100, id="Flowers"),
        pytest.param(3_680, 500, 0.1, 100, id="Pets"),
        pytest.param(50_000, 10_000, 0.02, 500, id="CIFAR"),
        pytest.param(1_281_167, 20_000, 0.01, 500, id="ImageNet"),
    ],
)
def test_the_size_of_the_data_says_how_long(images: int, steps: int, share: float, warmup: int) -> None:
    """ViT's table 4 and appendix B.1.1, and big_vision's configs/transfer.py, for each of these data sets."""
    assert (steps_for(images), validation_share_for(images), warmup_steps(PAPER, steps)) == (steps, share, warmup)


def test_a_short_run_warms_up_for_a_fifth_of_it_unless_told_otherwise() -> None:
    rates = [learning_rate(PAPER, step, 20) for step in range(20)]
    assert rates[:5] == pytest.approx([0, 0.0075, 0.015, 0.0225, 0.03])
    assert learning_rate(PAPER, 0, 1) == 0.03
    assert learning_rate(replace(PAPER, warmup_steps=0), 0, 20) == 0.03
    assert learning_rate(replace(PAPER, warmup_steps=10, warmup_share=1), 5, 20) == 0.015


def test_a_constant_rate() -> None:
    recipe = replace(PAPER, schedule="constant", warmup_steps=2)
    assert [learning_rate(recipe, step, 10) for step in (0, 1, 2, 9)] == [0, 0.015, 0.03, 0.03]
