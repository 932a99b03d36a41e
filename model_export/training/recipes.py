"""How to train, as data: the paper's two recipes and the one of the embedded digits."""

from dataclasses import dataclass
from typing import Literal

from model_export.training.augment import Crop


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights except the data, the start and the seed."""

    name: str
    epochs: int
    batch: int  # images a step
    optimizer: Literal["sgd", "adamw"]  # momentum 0.9; betas 0.9 and 0.999 with decoupled weight decay
    schedule: Literal["cosine", "linear"]  # from the peak to zero, after a linear warm-up
    learning_rate: float  # the peak
    warmup_steps: int
    warmup_share: float | None = None  # of the whole run, at most
    weight_decay: float = 0.0  # of matrices only, as multiplied by the learning rate
    clip: float = 1.0  # global norm of the gradient, at most
    label_smoothing: float = 0.0
    dropout: float = 0.0
    stochastic_depth: float = 0.0  # in the last block; 0 in the first
    mixup: float = 0.0  # p of Beta(p, p); 0: none
    magnitude: float = 0.0  # of RandAugment; 0: none
    crop: Crop = "resmall"
    flip: bool = True
    average_decay: float | None = None  # of the moving average of the weights, which then is what is kept
    keep: Literal["best", "last"] = "best"  # by validation accuracy


# Section 3 "Fine-tuning" and appendix C: the set-up of ViT (Dosovitskiy et al. 2021, appendix B.1.1), which counts
# 500 warm-up steps, no epochs, and searches the learning rate among 0.003, 0.01, 0.03 and 0.06.
PAPER = Recipe("paper", 20, 512, "sgd", "cosine", 0.03, warmup_steps=500, warmup_share=0.2)

# Section 3 "Pre-training", and the row Mixer-B, ImageNet of table 4 (appendix B).
SCRATCH = Recipe(
    name="scratch",
    epochs=300,
    batch=4096,
    optimizer="adamw",
    schedule="linear",
    learning_rate=0.001,
    warmup_steps=10_000,
    warmup_share=0.2,
    weight_decay=0.1,
    dropout=0.0,
    stochastic_depth=0.1,
    mixup=0.5,
    magnitude=15,
    crop="inception",
)

# Ours: `model_export.training.digit_batches` has its augmentation. Nothing is selected on the held-out digits.
DIGITS = Recipe(
    name="digits",
    epochs=80,
    batch=128,
    optimizer="adamw",
    schedule="cosine",
    learning_rate=2e-3,
    warmup_steps=60,
    weight_decay=0.05,
    label_smoothing=0.1,
    dropout=0.1,
    stochastic_depth=0.1,
    average_decay=0.995,
    flip=False,
    keep="last",
)

RECIPES = {recipe.name: recipe for recipe in (PAPER, SCRATCH, DIGITS)}
