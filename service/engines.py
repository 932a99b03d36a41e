"""The engines that can run a bundle here."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from service.engine import Engine, EngineError
from service.manifest import Precision
from service.onnx_engine import OnnxEngine


def cpu_engines(model: Path, precision: Precision, threads: int) -> Iterator[Engine]:
    """Every installed engine that can run the precision on a CPU, one after the other, the default first.

    Raises EngineError if none can.
    """
    if precision != "bf16":  # onnxruntime has no bfloat16 arithmetic on CPUs
        yield OnnxEngine(model, threads, ["CPUExecutionProvider"])
    if importlib.util.find_spec("openvino"):
        from service.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an optional dependency

        yield OpenVinoEngine(model, threads, precision)
    elif precision == "bf16":
        raise EngineError(f"{model}: bf16 runs on a CPU only with openvino, which is not installed")
