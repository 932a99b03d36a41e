"""`python -m model_export` (console script `mixer-export`): from a checkpoint to a verified bundle, and training."""

import argparse
import signal
import sys

from model_export.commands import evaluate, export, fewshot, finetune, inspect, runs, verify, visualize
from model_export.errors import ExportError
from service.bundles.bundle import BundleError
from service.bundles.golden import GoldenMismatch
from service.engines.engine import EngineError
from service.errors import ServiceError

_COMMANDS = {
    "inspect": inspect,
    "export": export,
    "verify": verify,
    "evaluate": evaluate,
    "fewshot": fewshot,
    "finetune": finetune,
    "runs": runs,
    "visualize": visualize,
}
_FAILURES = (ExportError, BundleError, EngineError, GoldenMismatch, ServiceError, OSError)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exits with 1 and one sentence if it fails."""
    parser = argparse.ArgumentParser(prog="mixer-export", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.__doc__, description=command.__doc__)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    if arguments is None:  # as a process of its own: SIGTERM unwinds too, so that nothing half-made is left behind
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        options.run(options)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except _FAILURES as error:
        sys.exit(f"mixer-export: {error}")


if __name__ == "__main__":
    main()
