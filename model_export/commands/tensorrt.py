"""The arguments of `export` that add a compiled engine to the bundle."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from model_export.tensorrt.engine import CompiledEngine, Way, add_engine, find_compiler
from model_export.tensorrt.profile import Profile, parse_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to `export`'s."""
    group = parser.add_argument_group("TensorRT (on the machine whose GPU will serve; see docs/gpu.md)")
    group.add_argument("--format", choices=["onnx", "tensorrt"], default="onnx", help="default: %(default)s")
    group.add_argument(
        "--tensorrt-with",
        choices=get_args(Way),
        default="rtx",
        help="rtx: onnxruntime's TensorRT-RTX plugin; builder: TensorRT 10 or 11 itself (default: %(default)s)",
    )
    group.add_argument(
        "--profile",
        type=parse_profile,
        default=Profile(1, 8, 64),
        metavar="MIN,OPT,MAX",
        help="batch sizes that the engine takes and is tuned for (default: 1,8,64)",
    )
    group.add_argument(
        "--engine-cache",
        type=Path,
        default=Path.home() / ".cache" / "mixer-serving" / "tensorrt",
        metavar="DIR",
        help="the builder's engines and kernel timings (default: %(default)s)",
    )


def compiler(options: argparse.Namespace) -> Callable[[Path], CompiledEngine] | None:
    """What `publish` calls on the staged bundle; None for --format onnx.

    Raises TensorRTError or EngineError at once, before the export's work, if nothing can compile here.
    """
    if options.format == "onnx":
        return None
    found, gpu = find_compiler(options.tensorrt_with, options.engine_cache)
    return partial(add_engine, compiler=found, gpu=gpu, profile=options.profile)
