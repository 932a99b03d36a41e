"""`python -m model_export` (console script `mixer-export`): from a checkpoint to a verified bundle, and training."""

import argparse
import importlib
import signal
import sys

from model_export.errors import ExportError
from service import __version__
from service.bundles.bundle import BundleError
from service.bundles.golden import GoldenMismatch
from service.engines.engine import EngineError
from service.errors import ServiceError

_COMMANDS = {  # a module each in model_export/commands
    "inspect": "Say what a checkpoint is: layout, variant, size, numerics, preprocessing, layers.",
    "export": "Checkpoint -> verified bundle in a model repository.",
    "download": "Fetch hf:OWNER/REPO[@REVISION] into the Hub's cache.",
    "verify": "Check a bundle's sha256, golden images and parity.",
    "evaluate": "Measure accuracy, calibration and speed of a bundle or a checkpoint on labelled images.",
    "fewshot": "Measure the paper's few-shot accuracy: least squares on a checkpoint's frozen features.",
    "finetune": "Train a Mixer -> checkpoint: the paper's fine-tuning, its training from scratch, or the digits'.",
    "runs": "Compare training runs: a table from their logs, a row a run.",
    "visualize": "Draw a Mixer's token-mixing units, as in the paper's figure, and its patch embeddings.",
}
_FAILURES = (ExportError, BundleError, EngineError, GoldenMismatch, ServiceError, OSError)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exits with 1 and one sentence if it fails."""
    arguments_given = sys.argv[1:] if arguments is None else arguments
    if arguments is None:  # as a process of its own: SIGTERM unwinds too, so that nothing half-made is left behind
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        options = _parser(arguments_given).parse_args(arguments_given)
        options.run(options)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("model_export", "service"):
            raise
        told = "pip install 'mixer-serving[export]', or in a checkout make setup"
        sys.exit(f"mixer-export: {error.name} is not installed: {told}")
    except _FAILURES as error:
        sys.exit(f"mixer-export: {error}")


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """With the arguments of the command that is asked for: only what it needs is imported, none of it for --help."""
    parser = argparse.ArgumentParser(prog="mixer-export", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if arguments[:1] == [name]:
            command = importlib.import_module(f"model_export.commands.{name}")
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    main()
