"""Compare training runs: a table from their logs, a row a run."""

import argparse
from pathlib import Path

from model_export.training.run_table import table_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="what --out was, or the log beside it")


def run(options: argparse.Namespace) -> None:
    """Print the table, in Markdown."""
    print(table_of(options.runs))
