from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from model_export.tensorrt.errors import TensorRTError
from model_export.tensorrt.input_check import check_input
from tests.model_export.tensorrt.models import uint8_model


def test_what_we_export_is_taken(model: bytes) -> None:
    check_input(model)
    half = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer)
    check_input(half.SerializeToString())


def test_uint8_into_a_transpose_is_not() -> None:
    with pytest.raises(TensorRTError, match=r"node .move_0. \(Transpose\) reads uint8"):
        check_input(uint8_model(("Transpose", "0312")))


def culprit(proto: onnx.ModelProto) -> onnx.NodeProto:
    proto.graph.node[-1].name = "culprit"
    return proto.graph.node[-1]


def contrib_operator(proto: onnx.ModelProto) -> None:
    culprit(proto).domain = "com.microsoft"


def unknown_operator(proto: onnx.ModelProto) -> None:
    culprit(proto).op_type = "DynamicQuantizeLinear"


def opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = version

    return change


def fixed_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def dynamic_height(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"


def other_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))


def double_precision(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float64), "culprit"))


def double_in_between(proto: onnx.ModelProto) -> None:
    head = proto.graph.node[-1]
    there = helper.make_node("Cast", [head.input[0]], ["wide"], name="culprit", to=TensorProto.DOUBLE)
    back = helper.make_node("Cast", ["wide"], ["narrow"], to=TensorProto.FLOAT)
    head.input[0] = "narrow"
    for node in (there, back):
        proto.graph.node.insert(len(proto.graph.node) - 1, node)


def quantised(zero_point: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        head = proto.graph.node[-1]
        scale = numpy_helper.from_array(np.float32(0.1), "scale")
        proto.graph.initializer.extend([scale, numpy_helper.from_array(zero_point, "zero_point")])
        parameters = ["scale", "zero_point"]
        quantise = helper.make_node("QuantizeLinear", [head.input[0], *parameters], ["q"], name="culprit")
        dequantise = helper.make_node("DequantizeLinear", ["q", *parameters], ["dq"])
        head.input[0] = "dq"
        for node in (quantise, dequantise):
            proto.graph.node.insert(len(proto.graph.node) - 1, node)

    return change


def changed(model: bytes, change: Callable[[onnx.ModelProto], None]) -> bytes:
    proto = onnx.load_from_string(model)
    change(proto)
    serialized: bytes = proto.SerializeToString()
    return serialized


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (contrib_operator, r"node 'culprit' \(\w+\) is of domain com\.microsoft"),
        (unknown_operator, r"node 'culprit' \(DynamicQuantizeLinear\) is an operator that TensorRT does not take"),
        (opset(16), "of opset 16; TensorRT takes 17 to 22"),
        (opset(23), "of opset 23; TensorRT takes 17 to 22"),
        (fixed_batch, "images has a fixed batch of 4"),
        (dynamic_height, "images has dynamic H: height, width and channels must be fixed"),
        (other_input, "other inputs and outputs than images, logits and features"),
        (double_precision, "initializer 'culprit' is DOUBLE"),
        (double_in_between, r"node 'culprit' \(Cast\): its output 'wide' is DOUBLE"),
        (quantised(np.uint8(0)), "initializer 'zero_point' is UINT8"),
        (quantised(np.int8(3)), r"node 'culprit' \(QuantizeLinear\) has a zero point other than 0"),
    ],
)
def test_what_is_refused_and_why(model: bytes, change: Callable[[onnx.ModelProto], None], cause: str) -> None:
    with pytest.raises(TensorRTError, match=cause):
        check_input(changed(model, change))


def test_symmetric_int8_is_taken(model: bytes) -> None:
    check_input(changed(model, quantised(np.int8(0))))
