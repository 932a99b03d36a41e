"""How many steps a run has, and the learning rate of each."""

import math

from model_export.training.recipes import Recipe

# Up to so many images, so many steps and such a share held out: small, medium and large data as BiT divides them
# (Kolesnikov et al. 2020, section 3.3). With them ViT's steps of each data set (Dosovitskiy et al. 2021, table 4, and
# big_vision's configs/transfer.py) follow from its size: Pets and Flowers 500, CIFAR 10,000, ImageNet 20,000.
_SIZES = ((20_000, 500, 0.1), (500_000, 10_000, 0.02), (math.inf, 20_000, 0.01))


def steps_for(images: int) -> int:
    """Fine-tuning steps for a data set of so many training images."""
    return next(steps for most, steps, _ in _SIZES if images < most)


def validation_share_for(images: int) -> float:
    """The share of the training images that ViT's appendix B.1.1 holds out: 10 %, 2 % (CIFAR) or 1 % (ImageNet)."""
    return next(share for most, _, share in _SIZES if images < most)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Of step 0, 1, ... steps - 1, as vit_jax and big_vision reckon it.

    It rises in a straight line from 0 at step 0 to the peak at step `warmup_steps`, and falls along a cosine or a
    straight line to what it would be at step `steps`: zero, or a straight line's `learning_rate_end`.
    """
    warmup = warmup_steps(recipe, steps)
    if step < warmup:
        return recipe.learning_rate * (step / warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (0.5 * (1 + math.cos(math.pi * progress)))
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 + (recipe.learning_rate_end - 1) * progress)
    return recipe.learning_rate


def warmup_steps(recipe: Recipe, steps: int) -> int:
    """The recipe's, or fewer where they would be too large a share of a short run."""
    return min(recipe.warmup_steps, int(recipe.warmup_share * steps))
