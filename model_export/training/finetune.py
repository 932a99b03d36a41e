"""Fine-tuning: data, a start and a recipe -> a checkpoint of our own, the same one every time."""

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from model_export.checkpoints.class_names import ClassNames
from model_export.checkpoints.tensor_file import Tensors
from model_export.datasets import digits
from model_export.datasets.data import DataError, Dataset, open_data
from model_export.datasets.normalisation import with_measured_normalisation
from model_export.datasets.readable import without_unreadable
from model_export.mlp_mixer import MlpMixer
from model_export.training.atomic import replacing
from model_export.training.augment import Augmentation
from model_export.training.batches import AugmentedBatches, Batches
from model_export.training.digit_batches import DigitBatches, evaluate_digits
from model_export.training.gradient import micro_batch_for
from model_export.training.head import with_head_for
from model_export.training.loop import Run, Training, Validate
from model_export.training.loss import Loss
from model_export.training.parts import divide
from model_export.training.precision import bf16_speedup, worth_it
from model_export.training.recipes import Recipe
from model_export.training.run_log import append_line, log_of
from model_export.training.schedule import steps_for, warmup_steps
from model_export.training.snapshot import TrainingError, bf16_of, path_of
from model_export.training.validation import top1
from service.bundles.manifest import Evaluation

_EVAL_STEPS = 100  # vit_jax's


@dataclass(frozen=True)
class Plan:
    """One fine-tuning, beside its start."""

    recipe: Recipe
    data: str  # as `model_export.datasets.data.open_data` takes it
    out: Path  # .safetensors; beside it OUT.jsonl, and OUT.resume while it runs
    seed: int = 0
    splits: bool = True  # folders may be parts of the data; else they are classes, whatever they are called
    normalise: Literal["dataset", "keep"] = "keep"  # measure the data's mean and std, or keep the start's
    validation_share: float | None = None  # of the training images; None: as the data is divided
    skip_unreadable: int = 0  # images at most
    keep_head: bool | None = None  # None: where the start's labels name all the data's classes
    replace: bool = False  # a finished run's `out`
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    bf16: bool | None = False  # None: on a CPU what is faster, else yes
    micro_batch: int | None = None  # images; None: as many as fit, at most a batch
    save_steps: int = 500


def finetune(start: Checkpoint, plan: Plan) -> Evaluation:
    """Train from `start`'s weights and write `plan.out`; its evaluation is that of the weights that were kept.

    What is understood of the data, and the plan, are told first. Where `plan.out` has a snapshot of the same run beside
    it, that run goes on. Raises DataError or TrainingError.
    """
    if plan.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what makes cuBLAS repeatable
    _check(plan)
    task = (_digits if plan.recipe.name == "digits" else _images)(start, plan)
    start, recipe, batches = task.start, plan.recipe, task.batches
    for note in start.notes:
        _tell(f"note: {note}")
    micro_batch = plan.micro_batch or min(batches.size, micro_batch_for(start.config, plan.device))
    model = MlpMixer(start.config, recipe.dropout, recipe.stochastic_depth)
    model.load_state_dict(start.state)
    bf16 = _bf16(model, plan, batches, micro_batch)
    evaluations = _evaluations(recipe, batches)
    steps = max(evaluations)
    warmup = warmup_steps(recipe, steps)
    if warmup >= steps:
        raise TrainingError(f"a warm-up of {warmup:,} steps leaves nothing of {steps:,}; ask for fewer --warmup-steps")
    settings = asdict(recipe) | {
        "data": task.fingerprint,
        "images": task.images,
        "start": _fingerprint_of_weights(start.state),
        "config": asdict(start.config),
        "preprocessing": start.preprocessing.model_dump(mode="json"),
        "seed": plan.seed,
        "micro_batch": micro_batch,
        "device": plan.device.type,
        "bf16": bf16,
    }
    told = asdict(recipe) | {
        "model": start.config.variant,
        "image_size": start.config.image_size,
        "data": Path(plan.data).name,
        "train_images": batches.images,
        "batch": batches.size,
        "steps": steps,
        "warmup_steps": warmup,
        "precision": "bf16" if bf16 else "fp32",
    }
    _tell(
        f"{steps:,} steps of {batches.size:,} images ({evaluations[steps]:.4g} epochs): "
        f"{warmup:,} steps of warm-up to {recipe.learning_rate:g}, then {recipe.schedule}; {told['precision']}"
    )

    def keep(model: nn.Module, evaluation: Evaluation | None) -> None:
        state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        _write(plan.out, replace(start, state=state, layout="mixer", evaluation=evaluation))

    run = Run(plan.out, plan.seed, plan.device, micro_batch, bf16, plan.save_steps, steps, evaluations, settings, told)
    training = Training(model, recipe, batches, run)
    training.train(task.validate, keep)
    kept = read_checkpoint(plan.out)
    if task.test is not None:
        kept = replace(kept, evaluation=task.test(kept.model().to(plan.device)))
        _write(plan.out, kept)
        assert kept.evaluation is not None
        append_line(log_of(plan.out), {"step": steps, "test_top1": kept.evaluation.top1})
    training.forget()
    assert kept.evaluation is not None
    return kept.evaluation


@dataclass(frozen=True)
class _Task:
    start: Checkpoint  # with the data's head, labels and preprocessing
    batches: Batches
    validate: Validate | None  # while it trains
    test: Validate | None  # once, at the end
    fingerprint: str
    images: list[str]  # by name


def _check(plan: Plan) -> None:
    if plan.out.suffix != ".safetensors":
        raise TrainingError(f"{plan.out}: the checkpoint is a .safetensors file; name it so")
    if plan.out.exists() and not path_of(plan.out).exists() and not plan.replace:
        raise TrainingError(f"{plan.out}: holds a finished run; choose another --out, or --replace it")


def _images(start: Checkpoint, plan: Plan) -> _Task:
    recipe = plan.recipe
    data = open_data(plan.data, plan.splits)
    _tell(f"{plan.data}: {data}")
    data = without_unreadable(data, plan.skip_unreadable)
    try:
        parts = divide(data, plan.validation_share, plan.seed)
    except DataError as error:
        raise DataError(f"{plan.data}: {error}") from None
    if recipe.keep == "best" and parts.val is None:
        raise TrainingError("the best weights are chosen by validation, and nothing is held out for it")
    start, head = with_head_for(start, data.classes, plan.keep_head, recipe.head_bias)
    _tell(f"{parts}; head: {head}")
    if plan.normalise == "dataset":
        start = replace(start, preprocessing=with_measured_normalisation(start.preprocessing, parts.train))
    augmentation = Augmentation(start.preprocessing, recipe.crop, recipe.flip, recipe.magnitude)
    batches = AugmentedBatches(parts.train, augmentation, recipe.batch, recipe.mixup, plan.seed)

    def judge(part: Dataset, split: str) -> Validate:
        def evaluate(model: nn.Module) -> Evaluation:
            batch = min(256, micro_batch_for(start.config, plan.device))
            accuracy = top1(model, part, start.preprocessing, batch, plan.device)
            return Evaluation(dataset=Path(plan.data).name, split=split, images=len(part), top1=round(accuracy, 6))

        return evaluate

    chosen = "; the best of the run" if recipe.keep == "best" else ""
    validate = judge(parts.val, parts.split + chosen) if parts.val else None
    test = judge(parts.test, "test") if parts.test else None
    used = [part for part in (parts.train, parts.val) if part is not None]
    names = [part.name(index) for part in used for index in range(len(part))]
    return _Task(start, batches, validate, test, _fingerprint(used), names)


def _digits(start: Checkpoint, plan: Plan) -> _Task:
    config = start.config
    if plan.data != "digits" or (config.image_size, config.classes) != (digits.IMAGE_SIZE, len(digits.LABELS)):
        raise TrainingError(
            f"the digits recipe takes the digits, {digits.IMAGE_SIZE} pixels and {len(digits.LABELS)} classes, not "
            f"{plan.data}, {config.image_size} and {config.classes}; choose another --recipe"
        )
    train, held_out = digits.load_split()
    start = replace(start, preprocessing=digits.PREPROCESSING).with_names(ClassNames(digits.LABELS))
    batches = DigitBatches(train, plan.recipe.batch, plan.seed)
    return _Task(start, batches, lambda model: evaluate_digits(model, held_out, plan.device), None, "digits", [])


def _bf16(model: MlpMixer, plan: Plan, batches: Batches, micro_batch: int) -> bool:
    """As asked for; as the run that goes on; on a CPU what is faster on the first images."""
    if plan.bf16 is not None:
        return plan.bf16
    if plan.device.type != "cpu":
        return True
    if (resumed := bf16_of(path_of(plan.out))) is not None:
        return resumed
    before = batches.state()
    speedup = bf16_speedup(model, next(iter(batches.batches(0, 1))), micro_batch, Loss(plan.recipe))
    batches.restore(before)
    if speedup != 1:
        _tell(f"bfloat16 trains {speedup:.2f} times as fast as float32 here")
    return worth_it(speedup)


def _evaluations(recipe: Recipe, batches: Batches) -> dict[int, float]:
    if recipe.epochs and recipe.eval_steps is None and batches.steps_in(recipe.epochs) >= recipe.least_steps:
        return {batches.steps_in(epoch): epoch for epoch in range(1, recipe.epochs + 1)}
    between = recipe.eval_steps or _EVAL_STEPS
    if recipe.epochs is None:
        steps = recipe.steps or steps_for(batches.images)
    else:
        steps = max(recipe.least_steps, batches.steps_in(recipe.epochs))
    return {step: round(step * batches.size / batches.images, 2) for step in (*range(between, steps, between), steps)}


def _write(out: Path, checkpoint: Checkpoint) -> None:
    with replacing(out) as partial:
        write_checkpoint(partial, checkpoint)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _fingerprint(parts: list[Dataset]) -> str:
    told: list[Any] = [
        [part.classes, list(part.labels), [part.name(index) for index in range(len(part))]] for part in parts
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _fingerprint_of_weights(state: Tensors) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
