"""Fine-tuning: data, a start and a recipe -> a checkpoint of our own, the same one every time."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from model_export.checkpoints.tensor_file import Tensors
from model_export.datasets import digits
from model_export.datasets.data import Dataset, open_data
from model_export.datasets.normalisation import with_measured_normalisation
from model_export.datasets.split import hold_out
from model_export.mlp_mixer import MlpMixer
from model_export.training.atomic import replacing
from model_export.training.augment import Augmentation
from model_export.training.batches import AugmentedBatches, Batches
from model_export.training.digit_batches import DigitBatches, evaluate_digits
from model_export.training.gradient import micro_batch_for
from model_export.training.loop import Run, Training, Validate
from model_export.training.recipes import Recipe
from model_export.training.snapshot import TrainingError
from model_export.training.validation import top1
from service.bundles.manifest import Evaluation


@dataclass(frozen=True)
class Plan:
    """One fine-tuning, beside its start."""

    recipe: Recipe
    data: str  # as `model_export.datasets.data.open_data` takes it
    out: Path  # .safetensors; beside it OUT.jsonl, and OUT.resume while it runs
    seed: int = 0
    normalise: Literal["dataset", "keep"] = "keep"  # measure the data's mean and std, or keep the start's
    validation_share: float = 0.1  # of data that has no division of its own
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    bf16: bool = False
    micro_batch: int | None = None  # images; None: as many as fit, at most a batch
    save_steps: int = 500


def finetune(start: Checkpoint, plan: Plan) -> Evaluation:
    """Train from `start`'s weights and write `plan.out`; its evaluation is that of the epoch that was kept.

    A head for other classes than the data's is replaced by one that starts at zero. Where `plan.out` has a snapshot
    of the same run beside it, that run goes on. Raises DataError or TrainingError.
    """
    if plan.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what makes cuBLAS repeatable
    if plan.out.suffix != ".safetensors":
        raise TrainingError(f"{plan.out}: the checkpoint is a .safetensors file; name it so")
    task = (_digits if plan.recipe.name == "digits" else _images)(start, plan)
    start = task.start
    micro_batch = plan.micro_batch or min(plan.recipe.batch, micro_batch_for(start.config, plan.device))
    settings = asdict(plan.recipe) | {
        "data": task.data,
        "start": _fingerprint_of_weights(start.state),
        "config": asdict(start.config),
        "preprocessing": start.preprocessing.model_dump(mode="json"),
        "seed": plan.seed,
        "micro_batch": micro_batch,
        "device": plan.device.type,
        "bf16": plan.bf16,
    }
    model = MlpMixer(start.config, plan.recipe.dropout, plan.recipe.stochastic_depth)
    model.load_state_dict(start.state)

    def keep(model: nn.Module, evaluation: Evaluation) -> None:
        state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        with replacing(plan.out) as partial:
            write_checkpoint(partial, replace(start, state=state, layout="mixer", evaluation=evaluation))

    run = Run(plan.out, plan.seed, plan.device, micro_batch, plan.bf16, plan.save_steps, settings)
    Training(model, plan.recipe, task.batches, run).train(task.validate, keep)
    evaluation = read_checkpoint(plan.out).evaluation
    assert evaluation is not None
    return evaluation


@dataclass(frozen=True)
class _Task:
    start: Checkpoint  # with the data's head, labels and preprocessing
    batches: Batches
    validate: Validate
    data: str  # fingerprint


def _images(start: Checkpoint, plan: Plan) -> _Task:
    train, val, split = _parts(plan)
    if start.labels != train.classes:
        start = start.with_new_head(len(train.classes), train.classes)
    if plan.normalise == "dataset":
        start = replace(start, preprocessing=with_measured_normalisation(start.preprocessing, train))
    recipe = plan.recipe
    augmentation = Augmentation(start.preprocessing, recipe.crop, recipe.flip, recipe.magnitude)
    batches = AugmentedBatches(train, augmentation, recipe.batch, recipe.mixup, plan.seed)
    if recipe.keep == "best":
        split = f"{split}; best of {recipe.epochs} epochs"

    def validate(model: nn.Module) -> Evaluation:
        batch = min(256, micro_batch_for(start.config, plan.device))
        accuracy = top1(model, val, start.preprocessing, batch, plan.device)
        return Evaluation(dataset=Path(plan.data).name, split=split, images=len(val), top1=round(accuracy, 6))

    return _Task(start, batches, validate, _fingerprint(train, val))


def _parts(plan: Plan) -> tuple[Dataset, Dataset, str]:
    parts = open_data(plan.data)
    if "all" not in parts:
        return parts["train"], parts["val"], "val"
    train, val = hold_out(parts["all"], plan.validation_share, plan.seed)
    return train, val, f"{plan.validation_share:.0%} of each class, seed {plan.seed}"


def _digits(start: Checkpoint, plan: Plan) -> _Task:
    config = start.config
    if plan.data != "digits" or (config.image_size, config.classes) != (digits.IMAGE_SIZE, len(digits.LABELS)):
        raise TrainingError(
            f"the digits recipe takes the digits, {digits.IMAGE_SIZE} pixels and {len(digits.LABELS)} classes, not "
            f"{plan.data}, {config.image_size} and {config.classes}; choose another --recipe"
        )
    train, held_out = digits.load_split()
    start = replace(start, preprocessing=digits.PREPROCESSING, labels=digits.LABELS)
    batches = DigitBatches(train, plan.recipe.batch, plan.seed)
    return _Task(start, batches, lambda model: evaluate_digits(model, held_out, plan.device), "digits")


def _fingerprint(*parts: Dataset) -> str:
    told = [[part.classes, list(part.labels), [part.name(index) for index in range(len(part))]] for part in parts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _fingerprint_of_weights(state: Tensors) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
