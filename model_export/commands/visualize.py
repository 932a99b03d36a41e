"""Draw a Mixer's token-mixing units, as in the paper's figure, and its patch embeddings."""

import argparse
from pathlib import Path

from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model_export.evaluation.pictures import draw_units
from model_export.evaluation.units import patch_embedding_units, token_mixing_units


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument(
        "--blocks", type=lambda text: [int(part) for part in text.split(",")], help="comma-separated; default: 0,1,2"
    )


def run(options: argparse.Namespace) -> None:
    """Draw the picture and print its path."""
    checkpoint = read_checkpoint(options.source)
    blocks = options.blocks or list(range(min(3, checkpoint.config.layers)))
    panels = {"patch embeddings": patch_embedding_units(checkpoint)}
    try:
        panels |= {f"token mixing, block {block}": token_mixing_units(checkpoint, block) for block in blocks}
    except ValueError as error:
        raise CheckpointError(f"{options.source}: {error}") from None
    draw_units(options.out, panels)
    print(options.out)
