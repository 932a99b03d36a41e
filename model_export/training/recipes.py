"""How to train, as data: the paper's two recipes and the one of the embedded digits."""

from dataclasses import dataclass
from typing import Literal

from model_export.training.augment import Crop
from model_export.variants import Gelu


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights except the data, the start and the seed."""

    name: str
    batch: int  # images a step; all of them where there are fewer
    optimizer: Literal["sgd", "adamw"]  # momentum 0.9; betas 0.9 and 0.999 with decoupled weight decay
    schedule: Literal["cosine", "linear", "constant"]  # from the peak, after a linear warm-up from zero
    learning_rate: float  # the peak
    warmup_steps: int
    warmup_share: float = 0.2  # of the whole run, at most
    steps: int | None = None  # of the whole run; without steps and epochs: `schedule.steps_for` the number of images
    epochs: int | None = None  # instead of steps
    least_steps: int = 0  # however few those epochs are
    eval_steps: int | None = None  # between evaluations; None: an epoch where epochs are counted, else 100
    learning_rate_end: float = 0.0  # of a linear schedule, as a share of the peak
    weight_decay: float = 0.0  # of matrices only, as multiplied by the learning rate
    clip: float = 1.0  # global norm of the gradient, at most; 0: as it comes
    loss: Literal["softmax", "sigmoid"] = "softmax"  # cross-entropy over the classes, or of each on its own
    head_bias: float | None = 0.0  # of a new head, whose weights are zero; None: what makes all classes equally likely
    label_smoothing: float = 0.0
    dropout: float = 0.0
    stochastic_depth: float = 0.0  # in the last block; 0 in the first
    mixup: float = 0.0  # p of Beta(p, p); 0: none
    magnitude: float = 0.0  # of RandAugment; 0: none
    crop: Crop = "inception"
    flip: bool = True
    average_decay: float | None = None  # of the moving average of the weights, which then is what is kept
    keep: Literal["last", "best"] = "last"  # the weights at the end, or at the best validation accuracy
    init: Literal["lecun", "torch"] = "lecun"  # of a variant's weights: Flax's defaults, or PyTorch's
    gelu: Gelu = "tanh"  # of a variant: Flax's default


# Section 3 "Fine-tuning" and appendix C: the set-up of ViT (Dosovitskiy et al. 2021, appendix B.1.1), whose code is
# vit_jax: configs/common.py for these figures, input_pipeline.py for the crop, utils.py for the schedule. The learning
# rate is searched among 0.003, 0.01, 0.03 and 0.06. The warm-up of a fifth, 100 steps of 500, is that of big_vision's
# configs/transfer.py.
PAPER = Recipe("paper", 512, "sgd", "cosine", 0.03, warmup_steps=500)

# Section 3 "Pre-training", the row Mixer-B, ImageNet of table 4 (appendix B). What the paper leaves open is from
# big_vision's configs/mlp_mixer_i1k.py: the loss, the head's bias (-6.9, the logarithm of 1/1000), the schedule's end.
SCRATCH = Recipe(
    name="scratch",
    batch=4096,
    optimizer="adamw",
    schedule="linear",
    learning_rate=0.001,
    warmup_steps=10_000,
    epochs=300,
    least_steps=500,
    learning_rate_end=1e-5,
    weight_decay=0.1,
    loss="sigmoid",
    head_bias=None,
    stochastic_depth=0.1,
    mixup=0.5,
    magnitude=15,
)

# Ours: `model_export.training.digit_batches` has its augmentation. Nothing is selected on the held-out digits.
DIGITS = Recipe(
    name="digits",
    batch=128,
    optimizer="adamw",
    schedule="cosine",
    learning_rate=2e-3,
    warmup_steps=60,
    epochs=80,
    weight_decay=0.05,
    label_smoothing=0.1,
    dropout=0.1,
    stochastic_depth=0.1,
    average_decay=0.995,
    flip=False,
    init="torch",
    gelu="erf",
)

RECIPES = {recipe.name: recipe for recipe in (PAPER, SCRATCH, DIGITS)}
