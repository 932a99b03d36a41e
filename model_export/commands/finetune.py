"""Train a Mixer -> checkpoint: the paper's fine-tuning, its training from scratch, or the digits'."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import torch

from model_export.commands.numbers import non_negative, number, positive_int, share, whole_number
from model_export.datasets import digits
from model_export.training.augment import Crop
from model_export.training.finetune import Plan, finetune
from model_export.training.initialise import lecun_normal
from model_export.training.recipes import DIGITS, PAPER, RECIPES, SCRATCH, Recipe
from model_export.training.snapshot import TrainingError
from model_export.training.start import starting_checkpoint
from model_export.variants import VARIANTS, Gelu

_RECIPE_FLAGS: tuple[tuple[str, dict[str, Any], str], ...] = (  # a field of Recipe, how its flag is read, what it sets
    ("steps", {"type": positive_int}, "batches in all (paper: 500, 10,000 or 20,000, by the number of images)"),
    ("epochs", {"type": positive_int}, "passes over the training images, instead of steps"),
    ("batch", {"type": positive_int}, "images a step"),
    ("optimizer", {"choices": ["sgd", "adamw"]}, "sgd has momentum 0.9"),
    ("schedule", {"choices": ["cosine", "linear", "constant"]}, "from the peak, after the warm-up"),
    ("learning-rate", {"type": non_negative}, "peak of the schedule"),
    ("learning-rate-end", {"type": share}, "of a linear schedule, as a share of the peak"),
    ("warmup-steps", {"type": whole_number}, "steps of linear warm-up; the recipes' are at most a fifth of the run"),
    ("eval-steps", {"type": positive_int}, "steps between evaluations (default: an epoch, or 100 with --steps)"),
    ("weight-decay", {"type": non_negative}, "of matrices"),
    ("clip", {"type": non_negative}, "global norm of the gradient, at most; 0: as it comes"),
    ("loss", {"choices": ["softmax", "sigmoid"]}, "cross-entropy over the classes, or of each on its own"),
    ("head-bias", {"type": number}, "of a new head (scratch: minus the logarithm of the number of classes)"),
    ("label-smoothing", {"type": share}, "share of a target that all classes divide"),
    ("dropout", {"type": share}, "rate in the MLPs"),
    ("stochastic-depth", {"type": share}, "rate in the last block"),
    ("mixup", {"type": non_negative}, "p of Beta(p, p); 0: none"),
    ("magnitude", {"type": non_negative}, "of RandAugment, full scale at 10; 0: none"),
    ("crop", {"choices": get_args(Crop)}, "of training images"),
    ("keep", {"choices": ["last", "best"]}, "the weights at the end, or at the best validation accuracy"),
    ("init", {"choices": ["lecun", "torch"]}, "of a variant's weights"),
    ("gelu", {"choices": get_args(Gelu)}, "of a variant"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--from", dest="start", default="XS/4", help=f"checkpoint, or variant ({', '.join(VARIANTS)}); default: XS/4"
    )
    parser.add_argument(
        "--data",
        default="digits",
        help="a folder a class, a table of files and labels, CIFAR, Oxford Pets or Flowers, ImageNet, Tiny ImageNet, "
        "parquet, WebDataset tars, or digits (the default); docs/finetuning.md says how each is recognised",
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, .safetensors")
    parser.add_argument("--replace", action="store_true", help="write over a finished run's checkpoint")
    parser.add_argument(
        "--recipe", choices=RECIPES, help="default: paper from a checkpoint, scratch from a variant, digits for digits"
    )
    recipe = parser.add_argument_group("the recipe's figures (default: the recipe's own)")
    for flag, how, text in _RECIPE_FLAGS:
        recipe.add_argument(f"--{flag}", help=text, **how)
    recipe.add_argument("--no-flip", dest="flip", action="store_false", default=None, help="for text, digits, hands")
    parser.add_argument(
        "--keep-head",
        action=argparse.BooleanOptionalAction,
        help="go on with the head's weights, or with a new head (default: kept where the labels name all classes)",
    )
    parser.add_argument("--image-size", type=positive_int, help="train at this size; K times a checkpoint's grows it")
    parser.add_argument("--resize-short", type=positive_int, help="small side before the crop (default: the start's)")
    parser.add_argument(
        "--normalise", choices=["dataset", "keep"], default=Plan.normalise, help="mean and std: the data's, the start's"
    )
    parser.add_argument(
        "--validation-share",
        type=share,
        help="of the training images, held out; 0: none (default: the data's own validation part, else 10 %%, 2 %% or "
        "1 %%, by the number of images)",
    )
    parser.add_argument("--no-splits", dest="splits", action="store_false", help="a class may be called train or test")
    parser.add_argument(
        "--skip-unreadable", type=whole_number, default=0, metavar="N", help="leave out up to N images, default: 0"
    )
    parser.add_argument("--seed", type=whole_number, default=Plan.seed, help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 on cuda, the faster one on a CPU")
    parser.add_argument("--micro-batch", type=positive_int, help="images at a time (default: as many as fit)")
    parser.add_argument(
        "--save-steps", type=whole_number, default=Plan.save_steps, help="default: %(default)s; 0: per evaluation"
    )


def run(options: argparse.Namespace) -> None:
    """Train, write the checkpoint, print its held-out accuracy."""
    recipe = chosen_recipe(options)
    plan = Plan(
        recipe=recipe,
        data=options.data,
        out=options.out,
        seed=options.seed,
        splits=options.splits,
        normalise=options.normalise,
        validation_share=options.validation_share,
        skip_unreadable=options.skip_unreadable,
        keep_head=options.keep_head,
        replace=options.replace,
        device=torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu")),
        bf16=None if options.precision is None else options.precision == "bf16",
        micro_batch=options.micro_batch,
        save_steps=options.save_steps,
    )
    start = starting_checkpoint(
        options.start, len(digits.LABELS), options.seed, options.image_size, options.resize_short, recipe.gelu
    )
    if options.start in VARIANTS and recipe.init == "lecun":
        start = lecun_normal(start, options.seed)
    evaluation = finetune(start, plan)
    print(f"{options.out}: held-out top-1 {evaluation.top1:.2%} of {evaluation.images} images ({evaluation.split})")


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that was asked for, or that the start and the data call for, with the flags that change it.

    Raises TrainingError for flags that contradict each other.
    """
    if options.recipe is not None:
        recipe = RECIPES[options.recipe]
    elif options.start not in VARIANTS:
        recipe = PAPER
    else:
        recipe = DIGITS if options.data == "digits" else SCRATCH
    names = [field.name for field in fields(Recipe) if field.name != "name"]
    given: dict[str, Any] = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    if given.keys() >= {"steps", "epochs"}:
        raise TrainingError("--steps and --epochs both say how long the run is; give one")
    if given.keys() & {"steps", "epochs"}:
        given = {"epochs": None, "least_steps": 0} | given
    if "warmup_steps" in given:
        given["warmup_share"] = 1.0  # exactly as many
    return replace(recipe, **given)
