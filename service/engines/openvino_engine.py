"""The OpenVINO engine."""

import os
from pathlib import Path

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from service.arrays import LogitBatch, Outputs, PixelBatch
from service.engines.engine import EngineError


class OpenVinoEngine:
    """A bundle's model.onnx compiled by OpenVINO for the CPU (see `service.engines.engine.Engine`).

    With several `streams` a batch is shared out among as many passes side by side, each on its part of the threads.
    """

    def __init__(self, model: Path, threads: int, precision: str, streams: int = 1) -> None:
        """`precision` is the bundle's; raises EngineError if OpenVINO cannot compile the model."""
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # Left alone, OpenVINO computes float32 models in bfloat16 where the CPU can.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # Scales that depend on the batch would let one image change another's answer.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            # Threads bound to cores would wait for those that decoding uses.
            "ENABLE_CPU_PINNING": False,
        }
        # Asked first, because OpenVINO's readers of other formats would each complain on standard error.
        if not FrontEndManager().load_by_framework("onnx").supported(os.fspath(model)):
            raise EngineError(f"{model}: not an ONNX model")
        try:
            compiled = openvino.Core().compile_model(os.fspath(model), "CPU", options)
            self._requests = [compiled.create_infer_request() for _ in range(streams)]
        except RuntimeError as error:
            raise EngineError(f"{model}: {' '.join(str(error).split())}") from error
        self._outputs = [output.any_name for output in compiled.outputs]
        passes = "" if streams == 1 else f", {streams} passes side by side"
        self.name = f"openvino {openvino.__version__.partition('-')[0]}{passes}"

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> logits, float32 [N, classes], or without a head features."""
        busy = self._pass(pixels)
        logits: LogitBatch = np.concatenate([request.get_output_tensor(0).data for request in busy])
        return logits

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same pass -> all outputs by name; OpenVINO computes them either way, and only reads out what is asked."""
        busy = self._pass(pixels)
        return {
            name: np.concatenate([request.get_output_tensor(index).data for request in busy])
            for index, name in enumerate(self._outputs)
        }

    def _pass(self, pixels: PixelBatch) -> list[openvino.InferRequest]:
        """The requests that have answered, in order."""
        # OpenVINO reads the arrays where they lie; `shares` keeps them alive until it has.
        whole = np.require(pixels, requirements=["C_CONTIGUOUS", "WRITEABLE"])
        shares = np.array_split(whole, min(len(self._requests), len(pixels)))
        busy = self._requests[: len(shares)]
        try:
            for request, share in zip(busy, shares, strict=True):
                request.set_input_tensor(openvino.Tensor(share, shared_memory=True))
                request.start_async()
        finally:  # even if one fails: none may read its share when that is gone
            for request in busy:
                request.wait()
        return busy
