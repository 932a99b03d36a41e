"""The learning rate of every step, as a share of its peak."""

import math

from model_export.training.recipes import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Of step 0, 1, ... steps - 1: a linear warm-up, then a cosine or a straight line from the peak towards zero."""
    warmup = warmup_steps(recipe, steps)
    if step < warmup:
        return recipe.learning_rate * ((step + 1) / warmup)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))
    return recipe.learning_rate * ((steps - step) / (steps - warmup))


def warmup_steps(recipe: Recipe, steps: int) -> int:
    """The recipe's, or fewer where they would be too large a share of a short run."""
    if recipe.warmup_share is None:
        return recipe.warmup_steps
    return min(recipe.warmup_steps, int(recipe.warmup_share * steps))
