"""Check a bundle's sha256, golden images and parity."""

import argparse
from pathlib import Path

from model_export.bundles.publish import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bundle", type=Path, help="<repository>/<name>/<version>")


def run(options: argparse.Namespace) -> None:
    """Verify and print what was found."""
    error = verify(options.bundle)
    print(f"{options.bundle}: verified, golden answers reproduced to {error:.2g}")
