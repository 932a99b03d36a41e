import math

import pytest
import torch
from torch import Generator

from model_export.datasets import digits
from model_export.training.digit_batches import DigitBatches, evaluate_digits


def test_a_fixed_stratified_fifth_is_held_out() -> None:
    train_part, held_out = digits.load_split()
    assert (len(train_part.classes), len(held_out.classes)) == (1437, 360)
    assert torch.equal(digits.load_split()[1].ink, held_out.ink)
    counts = torch.bincount(held_out.classes)
    assert counts.min() >= 34
    seen = {ink.numpy().tobytes() for ink in train_part.ink}
    assert not [ink for ink in held_out.ink if ink.numpy().tobytes() in seen]


def test_evaluation_counts_both_polarities() -> None:
    class Sees(torch.nn.Module):
        """Right on white-on-black digits, always 0 on black-on-white ones."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            dark = images.mean(dim=(1, 2, 3)) < 0
            answer = torch.where(dark, held_out.classes, torch.zeros_like(held_out.classes))
            return torch.nn.functional.one_hot(answer, 10).float()

    _, held_out = digits.load_split()
    evaluation = evaluate_digits(Sees(), held_out)
    zeros = (held_out.classes == 0).sum().item()
    assert evaluation.images == 720
    assert evaluation.top1 == pytest.approx((360 + zeros) / 720, abs=1e-6)


def test_augmentation_draws_both_polarities_within_range() -> None:
    train_part, _ = digits.load_split()
    images = digits.augment(train_part.ink[:200], Generator().manual_seed(0))
    assert images.shape == (200, 3, 32, 32)
    assert 0 <= images.min() < 0.05 < 0.95 < images.max() <= 1
    dark = (images.mean(dim=(1, 2, 3)) < 0.5).float().mean()
    assert 0.3 < dark < 0.7
    assert all(not math.isnan(value) for value in images.flatten()[:100].tolist())


@pytest.mark.parametrize("step", [0, 2, 4, 6, 8])
def test_a_run_taken_up_anywhere_goes_on_as_it_would_have(step: int) -> None:
    train_part, _ = digits.load_split()
    device = torch.device("cpu")
    source, again = DigitBatches(train_part, 400, seed=5), DigitBatches(train_part, 400, seed=6)
    for start in range(0, step, 2):  # as a run that is evaluated in between
        list(source.batches(start, start + 2))
    again.restore(source.state())
    pieces = (again.batches(step, step + 1), again.batches(step + 1, 10))
    rest = [batch.part(0, 400, device) for piece in pieces for batch in piece]
    whole = [batch.part(0, 400, device) for batch in DigitBatches(train_part, 400, seed=5).batches(0, 10)]
    assert [len(classes) for _, classes in whole] == [400, 400, 400, 237, 400, 400, 400, 237, 400, 400]
    assert len(rest) == 10 - step
    for (images, classes), (images_again, classes_again) in zip(whole[step:], rest, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(classes, classes_again)
