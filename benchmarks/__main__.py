"""`python -m benchmarks` (console script `mixer-bench`): measure engines and services, and size what serves.

Light: what a command needs is loaded once it is chosen, and may belong to an extra that is not installed.
"""

import argparse
import signal
import sys

from service import __version__

_COMMANDS = {
    "services, over HTTP": {
        "load": "load a service, by scenario",
        "compare": "the same load on several services, in turn",
        "overhead": "the service around an engine that does nothing",
        "fuzz": "damaged images by the thousand through every door of the service",
        "chaos": "faults on a running service, and what a good client sees of them",
        "cross-check": "the load benchmark beside LoadGen and perf_analyzer",
    },
    "engines, in this process": {
        "engine": "our engines beside every other, alone, by batch size and threads",
        "steps": "what each technique gains, one after the other",
        "train": "training steps in float32 and bfloat16, beside the GEMM peak",
        "decode": "from JPEG to pixels, beside the plain Pillow pipeline",
        "gpu": "the CUDA engine beside torch.compile and GEMM",
        "paper": "every variant beside the paper's TPUv3",
    },
    "sizing": {"plan": "from a load result and a demand to a kustomize component"},
}
_WITH_TORCH = ("engine", "steps", "train", "gpu", "paper")
_OURS = ("benchmarks", "service", "model_export")


def main() -> None:
    """Run one command, or `engine` and `load` with their defaults; exits with 1 and one line if an extra is missing."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # after the servers that it started
    arguments = sys.argv[1:]
    _parser().parse_args(arguments[:1])
    for line in [arguments] if arguments else [["engine"], ["load"]]:
        try:
            from benchmarks.commands import run  # noqa: PLC0415 - see above

            path = run(line)
        except ModuleNotFoundError as missing:
            if not missing.name or missing.name.partition(".")[0] in _OURS:
                raise
            extra = "bench,export" if line[0] in _WITH_TORCH else "bench"
            told = f"pip install 'mixer-serving[{extra}]', or in a checkout make setup"
            sys.exit(f"mixer-bench {line[0]} needs {missing.name}: {told}")
        print(path.read_text(), path, sep="\n")


def _parser() -> argparse.ArgumentParser:
    """Of the first word alone: the command's own parser reads the rest."""
    groups = [
        "\n".join([f"{title}:", *(f"  {name:13}{told}" for name, told in commands.items())])
        for title, commands in _COMMANDS.items()
    ]
    parser = argparse.ArgumentParser(
        prog="mixer-bench",
        usage="mixer-bench [--version] [COMMAND [--help] ...]",
        description="Measure engines and services; without a command, `engine` and `load` with their defaults.",
        epilog="\n\n".join(groups),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mixer-bench {__version__}", help="show it and exit")
    names = [name for commands in _COMMANDS.values() for name in commands]
    parser.add_argument("command", nargs="?", choices=names, metavar="COMMAND", help="one of those below")
    return parser


if __name__ == "__main__":
    main()
