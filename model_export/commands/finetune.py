"""Train a Mixer -> checkpoint."""

import argparse
from pathlib import Path

import torch

from model_export import digits
from model_export.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from model_export.finetune import Recipe, finetune_digits
from model_export.mlp_mixer import MlpMixer
from model_export.variants import VARIANTS, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--from", dest="start", default="XS/4", help=f"checkpoint, or variant ({', '.join(VARIANTS)}); default: XS/4"
    )
    parser.add_argument("--data", choices=["digits"], default="digits", help="scikit-learn's handwritten digits")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, .safetensors")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Train, write the checkpoint, print its held-out accuracy."""
    recipe = Recipe(epochs=options.epochs, seed=options.seed)
    checkpoint = finetune_digits(_starting_model(options.start, recipe), recipe)
    write_checkpoint(options.out, checkpoint)
    assert checkpoint.evaluation is not None
    print(f"{options.out}: held-out top-1 {checkpoint.evaluation.top1:.2%} of {checkpoint.evaluation.images} images")


def _starting_model(start: str, recipe: Recipe) -> MlpMixer:
    torch.manual_seed(recipe.seed)
    if start in VARIANTS:
        config, state = config_of(start, classes=len(digits.LABELS)), None
    else:
        checkpoint = read_checkpoint(start)
        config, state = checkpoint.config, checkpoint.state
    if (config.image_size, config.classes) != (digits.IMAGE_SIZE, len(digits.LABELS)):
        raise CheckpointError(
            f"{start}: takes {config.image_size} pixels and has {config.classes} classes; "
            f"the digits need {digits.IMAGE_SIZE} and {len(digits.LABELS)}"
        )
    model = MlpMixer(config, recipe.dropout, recipe.stochastic_depth)
    if state is not None:
        model.load_state_dict(state)
    return model
