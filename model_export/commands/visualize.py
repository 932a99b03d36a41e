"""Draw a Mixer's token-mixing units, as in the paper's figure, and its patch embeddings."""

import argparse
from pathlib import Path

from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model_export.commands.numbers import whole_number
from model_export.errors import ExportError
from model_export.evaluation.pictures import draw_units
from model_export.evaluation.units import patch_embedding_units, token_mixing_units


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--blocks", type=_blocks, help="comma-separated; default: 0,1,2")


def run(options: argparse.Namespace) -> None:
    """Draw the picture and print its path."""
    if not options.out.parent.is_dir():
        raise ExportError(f"{options.out.parent}: no such folder to write to")
    checkpoint = read_checkpoint(options.source)
    blocks = options.blocks or list(range(min(3, checkpoint.config.layers)))
    panels = {"patch embeddings": patch_embedding_units(checkpoint)}
    try:
        panels |= {f"token mixing, block {block}": token_mixing_units(checkpoint, block) for block in blocks}
    except ValueError as error:
        raise CheckpointError(f"{options.source}: {error}") from None
    draw_units(options.out, panels)
    print(options.out)


def _blocks(text: str) -> list[int]:
    try:
        return [int(whole_number(part)) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of block numbers such as 0,1,2") from None
