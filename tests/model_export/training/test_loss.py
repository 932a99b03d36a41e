import math
from dataclasses import replace

import pytest
import torch

from model_export.training.loss import Loss
from model_export.training.recipes import PAPER, SCRATCH

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
CLASSES = torch.tensor([0, 1])


def test_softmax_is_the_mean_of_minus_the_log_of_the_right_classes_share() -> None:
    right = [math.exp(2) / (math.exp(2) + math.exp(-1) + math.exp(0.5)), 1 / (2 + math.exp(3))]
    assert Loss(PAPER)(LOGITS, CLASSES).item() == pytest.approx(-sum(map(math.log, right)) / 2, rel=1e-6)


@pytest.mark.parametrize("as_shares", [False, True])
def test_sigmoid_sums_over_classes_each_on_its_own(as_shares: bool) -> None:
    def yes(logit: float) -> float:
        return math.log(1 + math.exp(-logit))

    def no(logit: float) -> float:
        return yes(-logit)

    targets = torch.nn.functional.one_hot(CLASSES, 3).float() if as_shares else CLASSES
    expected = (yes(2) + no(-1) + no(0.5) + no(0) + yes(0) + no(3)) / 2
    assert Loss(SCRATCH)(LOGITS, targets).item() == pytest.approx(expected, rel=1e-6)


def test_mixed_targets_and_smoothing_give_shares() -> None:
    smooth = Loss(replace(SCRATCH, label_smoothing=0.3))(LOGITS, CLASSES)
    by_hand = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert smooth.item() == pytest.approx(Loss(SCRATCH)(LOGITS, by_hand).item(), rel=1e-6)
