"""The onnxruntime engine."""

from pathlib import Path

import onnxruntime as ort

from service.arrays import LogitBatch, Outputs, PixelBatch
from service.engines.engine import EngineError


class OnnxEngine:
    """One onnxruntime session over a bundle's model.onnx (see `service.engines.engine.Engine`)."""

    def __init__(self, model: Path, threads: int, providers: list[str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # onnxruntime's own count ignores affinity and CPU quotas
        options.inter_op_num_threads = 1  # a Mixer is a chain: nothing runs beside anything
        options.log_severity_level = 4  # what goes wrong is raised as well, and then told in one line
        # Idle threads that spin would burn the cores that decoding needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if unknown := sorted(set(providers) - set(ort.get_available_providers())):
            raise EngineError(
                f"providers not installed: {', '.join(unknown)}; installed: {', '.join(ort.get_available_providers())}"
            )
        try:
            self._session = ort.InferenceSession(model, options, providers=providers)
        except Exception as error:  # onnxruntime raises classes of its own that share no public base
            raise EngineError(f"{model}: {error}") from error
        # onnxruntime falls back to the CPU silently when a provider fails to start.
        if self._session.get_providers()[0] != providers[0]:
            raise EngineError(f"{providers[0]} did not start; onnxruntime fell back to {self._session.get_providers()}")
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.name = f"onnxruntime {ort.__version__}, {providers[0].removesuffix('ExecutionProvider')}"

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> logits, float32 [N, classes], or without a head features."""
        (answer,) = self._session.run(self._outputs[:1], {"images": pixels})
        result: LogitBatch = answer
        return result

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same pass -> all outputs by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {"images": pixels}), strict=True))
