"""Fetch hf:OWNER/REPO[@REVISION] into the Hub's cache."""

import argparse

from model_export.checkpoints.hub import download
from model_export.checkpoints.tensor_file import CheckpointError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="hf:OWNER/REPO[@REVISION]")


def run(options: argparse.Namespace) -> None:
    """Print the folder, whose name is the commit's."""
    try:
        print(download(options.source))
    except CheckpointError as error:
        raise CheckpointError(f"{options.source}: {error}") from None
