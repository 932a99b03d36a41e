"""Training: from a variant or a checkpoint to a checkpoint of our own, reproducibly from a seed."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from model_export import digits
from model_export.checkpoint import Checkpoint
from model_export.mlp_mixer import MlpMixer
from service.manifest import Evaluation


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are for the digits."""

    epochs: int = 80
    batch_size: int = 128
    learning_rate: float = 2e-3  # peak, after a linear warm-up; then a cosine to zero
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    dropout: float = 0.1
    stochastic_depth: float = 0.1
    average_decay: float = 0.995  # of the exponential moving average of the weights, which is what is kept
    seed: int = 0


def finetune_digits(model: MlpMixer, recipe: Recipe) -> Checkpoint:
    """Train `model` in place on the digits' training part; the checkpoint carries its held-out accuracy.

    The held-out part is looked at once, after the last step: nothing is selected on it.
    """
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    generator = Generator().manual_seed(recipe.seed)
    train, held_out = digits.load_split()
    steps_per_epoch = math.ceil(len(train.classes) / recipe.batch_size)
    steps = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch

    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / (steps - warmup)))),
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    average = copy.deepcopy(model).eval()
    model.train()
    with tqdm(total=steps, desc="finetune", unit="step") as progress:
        for _ in range(recipe.epochs):
            order = torch.randperm(len(train.classes), generator=generator)
            for start in range(0, len(order), recipe.batch_size):
                batch = order[start : start + recipe.batch_size]
                images = digits.normalise(digits.augment(train.ink[batch], generator))
                loss = loss_of(model(images), train.classes[batch])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                _update_average(average, model, recipe.average_decay)
                progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                progress.update()
    return Checkpoint(
        config=model.config,
        state=average.state_dict(),
        preprocessing=digits.PREPROCESSING,
        layout="mixer",
        labels=digits.LABELS,
        evaluation=evaluate_digits(average, held_out),
    )


@torch.no_grad()
def evaluate_digits(model: nn.Module, held_out: digits.Digits) -> Evaluation:
    """Top-1 accuracy over the held-out digits in both polarities: white on black as scanned, and black on white."""
    correct: list[Tensor] = []
    for on_white in (False, True):
        logits = model(digits.normalise(digits.render(held_out.ink, on_white)))
        correct.append(logits.argmax(dim=1) == held_out.classes)
    return Evaluation(
        dataset="scikit-learn digits, both polarities",
        split=digits.HELD_OUT_SPLIT,
        images=sum(len(part) for part in correct),
        top1=round(torch.cat(correct).float().mean().item(), 6),
    )


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases and LayerNorm parameters do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
