import math

import pytest
import torch
from torch import Generator

from model_export import digits
from model_export.finetune import Recipe, evaluate_digits, finetune_digits
from model_export.mlp_mixer import MlpMixer
from model_export.variants import config_of

SHORT = Recipe(epochs=2, warmup_epochs=1)


def train(recipe: Recipe) -> dict[str, torch.Tensor]:
    torch.manual_seed(recipe.seed)
    return finetune_digits(MlpMixer(config_of("XS/4", 10)), recipe).state


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again = train(SHORT), train(SHORT)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = train(Recipe(epochs=2, warmup_epochs=1, seed=1))
    assert not torch.equal(first["head.weight"], other["head.weight"])


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


def test_training_starts_from_an_untrained_loss_and_learns() -> None:
    train_part, held_out = digits.load_split()
    del train_part
    torch.manual_seed(0)
    model = MlpMixer(config_of("XS/4", 10))
    before = evaluate_digits(model.eval(), held_out).top1
    finetune_digits(model, Recipe(epochs=4, warmup_epochs=1))
    after = evaluate_digits(model.eval(), held_out).top1
    assert before < 0.3 < 0.5 < after
