"""TensorRT-RTX through onnxruntime's plugin provider: ONNX -> an EPContext model with the engine inside."""

from pathlib import Path
from types import ModuleType
from typing import Final

import onnx
import onnxruntime

from model_export.tensorrt.errors import TensorRTError
from model_export.tensorrt.profile import Profile
from service.engines.gpu.tensorrt_library import PLUGIN_PROVIDER, register_plugin


class Rtx:
    """Compiles with onnxruntime's ModelCompiler; plain onnxruntime loads the result, with the same plugin."""

    provider: Final = PLUGIN_PROVIDER

    def __init__(self, ort: ModuleType = onnxruntime) -> None:
        """Raises EngineError if the plugin cannot be registered."""
        self._ort = ort
        plugin = register_plugin(ort)
        self._device = plugin.device
        self.version = plugin.version

    def compile(self, model: bytes, out: Path, profile: Profile) -> None:
        """Write `out`. Raises TensorRTError if the model does not compile, or not as a whole."""
        (images,) = onnx.load_from_string(model).graph.input
        _, *rest = [dim.dim_value for dim in images.type.tensor_type.shape.dim]
        options = self._ort.SessionOptions()
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices(
            [self._device],
            {
                f"nv_profile_{which}_shapes": f"images:{'x'.join(map(str, (batch, *rest)))}"
                for which, batch in zip(("min", "opt", "max"), profile, strict=True)
            },
        )
        try:
            compiler = self._ort.ModelCompiler(options, model, embed_compiled_data_into_model=True)
            compiler.compile_to_file(str(out))
        except Exception as error:  # onnxruntime raises classes of its own that share no public base
            raise TensorRTError(f"TensorRT-RTX {self.version} did not compile the model: {error}") from error
        operators = [node.op_type for node in onnx.load(out).graph.node]
        if operators != ["EPContext"]:
            raise TensorRTError(f"TensorRT-RTX {self.version} did not take the whole model: {', '.join(operators)}")
