"""The builder with a real TensorRT: TensorRT-RTX's, which has the same Python API and builds without a GPU.

Skipped unless it is installed: `pip install tensorrt-rtx` (95 MB).
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from model_export.tensorrt.builder import Builder
from model_export.tensorrt.errors import TensorRTError
from model_export.tensorrt.input_check import check_input
from model_export.tensorrt.profile import Profile
from tests.gpu_doubles import GPU
from tests.model_export.tensorrt.models import uint8_model

# Its timing cache is a deprecated no-op; classic TensorRT's is neither.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")


@pytest.fixture(scope="module")
def trt() -> Any:
    if sys.platform != "linux":
        pytest.skip("TensorRT-RTX is tried on Linux only")
    return pytest.importorskip("tensorrt_rtx")


def fp16(model: bytes) -> bytes:
    converted: bytes = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True).SerializeToString()
    return converted


def bf16(model: bytes) -> bytes:
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            half = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            tensor.CopyFrom(
                helper.make_tensor(tensor.name, TensorProto.BFLOAT16, values.shape, half.tobytes(), raw=True)
            )
    proto.graph.node[0].attribute[0].i = TensorProto.BFLOAT16  # the cast of the pixels
    for name in [output.name for output in proto.graph.output]:
        for node in proto.graph.node:
            for ends in (node.input, node.output):
                ends[:] = [f"narrow_{name}" if end == name else end for end in ends]
        proto.graph.node.append(helper.make_node("Cast", [f"narrow_{name}"], [name], to=TensorProto.FLOAT))
    converted: bytes = proto.SerializeToString()
    return converted


@pytest.mark.parametrize("precision", [bytes, fp16, bf16])
def test_what_passes_the_check_is_built(
    model: bytes, precision: Callable[[bytes], bytes], trt: Any, tmp_path: Path
) -> None:
    check_input(precision(model))
    Builder(GPU, tmp_path / "cache", trt).compile(precision(model), tmp_path / "model_ctx.onnx", Profile(1, 8, 64))
    assert (tmp_path / "model.engine").stat().st_size > 0


def test_uint8_into_a_transpose_is_refused_by_tensorrt_too(trt: Any, tmp_path: Path) -> None:
    model = uint8_model(("Transpose", "0312"))
    with pytest.raises(TensorRTError, match=r"cannot parse the model: In node 0 .* Transpose .*type UInt8 but must"):
        Builder(GPU, tmp_path / "cache", trt).compile(model, tmp_path / "model_ctx.onnx", Profile(1, 8, 64))
