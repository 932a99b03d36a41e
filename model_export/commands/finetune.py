"""Train a Mixer -> checkpoint: the paper's fine-tuning, its training from scratch, or the digits'."""

import argparse
from dataclasses import fields, replace
from pathlib import Path

import torch

from model_export.commands.numbers import non_negative, positive_int, share, whole_number
from model_export.datasets import digits
from model_export.training.finetune import Plan, finetune
from model_export.training.recipes import DIGITS, PAPER, RECIPES, SCRATCH, Recipe
from model_export.training.start import starting_checkpoint
from model_export.variants import VARIANTS

_RECIPE_FLAGS = (  # flag, type, what it sets
    ("epochs", positive_int, "passes over the training images"),
    ("batch", positive_int, "images a step"),
    ("learning-rate", non_negative, "peak of the schedule"),
    ("warmup-steps", whole_number, "steps of linear warm-up, at most a fifth of the run"),
    ("weight-decay", non_negative, "of matrices"),
    ("label-smoothing", share, "share of a target that all classes divide"),
    ("dropout", share, "rate in the MLPs"),
    ("stochastic-depth", share, "rate in the last block"),
    ("mixup", non_negative, "p of Beta(p, p); 0: none"),
    ("magnitude", non_negative, "of RandAugment, full scale at 10; 0: none"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--from", dest="start", default="XS/4", help=f"checkpoint, or variant ({', '.join(VARIANTS)}); default: XS/4"
    )
    parser.add_argument(
        "--data",
        default="digits",
        help="folder of images, a folder a class; CIFAR-10 or CIFAR-100 python archive; or digits (the default)",
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, .safetensors")
    parser.add_argument(
        "--recipe", choices=RECIPES, help="default: paper from a checkpoint, scratch from a variant, digits for digits"
    )
    for flag, type_, text in _RECIPE_FLAGS:
        parser.add_argument(f"--{flag}", type=type_, help=f"{text} (default: the recipe's)")
    parser.add_argument("--crop", choices=["resmall", "inception"], help="of training images (default: the recipe's)")
    parser.add_argument("--no-flip", dest="flip", action="store_false", default=None, help="for text, digits, hands")
    parser.add_argument("--image-size", type=positive_int, help="train at this size; K times a checkpoint's grows it")
    parser.add_argument("--resize-short", type=positive_int, help="small side before the crop (default: the start's)")
    parser.add_argument(
        "--normalise",
        choices=["dataset", "keep"],
        help="mean and std: the data's own (default from a variant), or the start's",
    )
    parser.add_argument("--validation-share", type=share, default=Plan.validation_share, help="default: %(default)s")
    parser.add_argument("--seed", type=whole_number, default=Plan.seed, help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 on cuda, fp32 on cpu")
    parser.add_argument("--micro-batch", type=positive_int, help="images at a time (default: as many as fit)")
    parser.add_argument(
        "--save-steps", type=whole_number, default=Plan.save_steps, help="default: %(default)s; 0: per epoch"
    )


def run(options: argparse.Namespace) -> None:
    """Train, write the checkpoint, print its held-out accuracy."""
    recipe = chosen_recipe(options)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    plan = Plan(
        recipe=recipe,
        data=options.data,
        out=options.out,
        seed=options.seed,
        normalise=options.normalise or ("dataset" if options.start in VARIANTS else "keep"),
        validation_share=options.validation_share,
        device=device,
        bf16=(options.precision or ("bf16" if device.type == "cuda" else "fp32")) == "bf16",
        micro_batch=options.micro_batch,
        save_steps=options.save_steps,
    )
    start = starting_checkpoint(
        options.start, len(digits.LABELS), options.seed, options.image_size, options.resize_short
    )
    evaluation = finetune(start, plan)
    print(f"{options.out}: held-out top-1 {evaluation.top1:.2%} of {evaluation.images} images")


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that was asked for, or that the start and the data call for, with the flags that change it."""
    if options.recipe is not None:
        recipe = RECIPES[options.recipe]
    elif options.start not in VARIANTS:
        recipe = PAPER
    else:
        recipe = DIGITS if options.data == "digits" else SCRATCH
    given = {field.name: getattr(options, field.name, None) for field in fields(Recipe)}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None and name != "name"})
