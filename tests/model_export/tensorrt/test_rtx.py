"""Compiling with the plugin, where onnxruntime and the plugin are stand-ins."""

from pathlib import Path
from typing import Any

import onnx
import pytest

import model_export.tensorrt.rtx
from model_export.tensorrt.errors import TensorRTError
from model_export.tensorrt.profile import Profile
from model_export.tensorrt.rtx import Rtx
from service.engines.gpu.tensorrt_library import PLUGIN_PROVIDER, Plugin
from tests.gpu_doubles import Device, StandInOrt


class CompilingOrt(StandInOrt):
    """Its ModelCompiler replaces the first `taken` nodes of the model by an EPContext node."""

    def __init__(self, taken: int | None = None, failure: str = "") -> None:
        super().__init__(PLUGIN_PROVIDER)
        self.taken, self.failure = taken, failure
        self.compiled: dict[str, Any] = {}

    def ModelCompiler(self, options: Any, model: bytes, **arguments: Any) -> "CompilingOrt":  # noqa: N802
        if self.failure:
            raise RuntimeError(self.failure)
        self.compiled = {"options": options, "model": model, **arguments}
        return self

    def compile_to_file(self, path: str) -> None:
        proto = onnx.load_from_string(self.compiled["model"])
        rest = list(proto.graph.node)[self.taken :] if self.taken else []
        del proto.graph.node[:]
        proto.graph.node.append(onnx.helper.make_node("EPContext", ["images"], ["logits"], domain="com.microsoft"))
        proto.graph.node.extend(rest)
        onnx.save(proto, path)


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    plugin = Plugin(Device(PLUGIN_PROVIDER), "1.7.1.116")
    monkeypatch.setattr(model_export.tensorrt.rtx, "register_plugin", lambda ort: plugin)
    return plugin


def test_the_engine_goes_into_the_context_model(model: bytes, tmp_path: Path, plugin: Plugin) -> None:
    ort = CompilingOrt()
    rtx = Rtx(ort)
    rtx.compile(model, tmp_path / "model_ctx.onnx", Profile(1, 8, 64))
    assert (rtx.provider, rtx.version) == (PLUGIN_PROVIDER, "1.7.1.116")
    assert ort.compiled["model"] == model
    assert ort.compiled["embed_compiled_data_into_model"] is True
    options = ort.compiled["options"]
    assert options.entries == {"session.disable_cpu_ep_fallback": "1"}
    assert options.devices == [plugin.device]
    assert options.device_options == {
        "nv_profile_min_shapes": "images:1x16x16x3",
        "nv_profile_opt_shapes": "images:8x16x16x3",
        "nv_profile_max_shapes": "images:64x16x16x3",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model_ctx.onnx"]


def test_a_model_taken_in_part_is_an_error(model: bytes, tmp_path: Path) -> None:
    nodes = onnx.load_from_string(model).graph.node
    with pytest.raises(TensorRTError, match=f"did not take the whole model: EPContext, {nodes[-1].op_type}"):
        Rtx(CompilingOrt(taken=len(nodes) - 1)).compile(model, tmp_path / "model_ctx.onnx", Profile(1, 8, 64))


def test_onnxruntimes_own_failure_is_told(model: bytes, tmp_path: Path) -> None:
    with pytest.raises(TensorRTError, match=r"TensorRT-RTX 1\.7\.1\.116 did not compile the model: out of memory"):
        Rtx(CompilingOrt(failure="out of memory")).compile(model, tmp_path / "m.onnx", Profile(1, 8, 64))
