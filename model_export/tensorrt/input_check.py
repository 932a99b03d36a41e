"""Refuse, by name, what TensorRT would not take, before anything is compiled on a GPU that is paid by the hour."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, numpy_helper, shape_inference

from model_export.tensorrt.errors import TensorRTError
from service.arrays import FEATURES, LOGITS

OPSETS = range(17, 23)  # from LayerNormalization to the last that TensorRT 10's parser knows
# Of onnx-tensorrt's operators.md, what a Mixer may consist of.
_OPERATORS = {
    "Add",
    "Cast",
    "Concat",
    "Constant",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Erf",
    "Expand",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "Pow",
    "QuantizeLinear",
    "ReduceMean",
    "Reshape",
    "Shape",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
}
_TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
)


def check_input(model: bytes) -> None:
    """Check an ONNX model, with the cast of its uint8 input already first.

    Raises TensorRTError naming the node or tensor: an operator set, domain, operator or element type that TensorRT does
    not know; a quantisation that is not symmetric int8; uint8 read by anything but a Cast; an input other than
    `images` [N, H, W, 3] with only N dynamic.
    """
    proto = onnx.load_from_string(model)
    _check_opset(proto)
    for node in proto.graph.node:
        _check_operator(node)
    _check_interface(proto.graph)
    _check_types(shape_inference.infer_shapes(proto, strict_mode=True).graph)


def _check_opset(model: onnx.ModelProto) -> None:
    opset = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        raise TensorRTError(f"the model is of opset {opset}; TensorRT takes {OPSETS[0]} to {OPSETS[-1]}")


def _check_operator(node: onnx.NodeProto) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise TensorRTError(f"{_name(node)} is of domain {node.domain}, which TensorRT does not know")
    if node.op_type not in _OPERATORS:
        raise TensorRTError(f"{_name(node)} is an operator that TensorRT does not take")


def _check_interface(graph: onnx.GraphProto) -> None:
    outputs = {tensor.name for tensor in graph.output}
    if [tensor.name for tensor in graph.input] != ["images"] or not outputs or outputs - {LOGITS, FEATURES}:
        raise TensorRTError("the model has other inputs and outputs than images, logits and features")
    batch, *rest = graph.input[0].type.tensor_type.shape.dim
    if batch.HasField("dim_value"):
        raise TensorRTError(f"images has a fixed batch of {batch.dim_value}; the profile needs a dynamic one")
    if dynamic := [dim.dim_param or "?" for dim in rest if not dim.HasField("dim_value")]:
        raise TensorRTError(f"images has dynamic {', '.join(dynamic)}: height, width and channels must be fixed")
    if graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8:
        for node in graph.node:
            if "images" in node.input and node.op_type != "Cast":
                raise TensorRTError(f"{_name(node)} reads uint8, which TensorRT takes into a Cast only")


def _check_types(graph: onnx.GraphProto) -> None:
    for where, name, element in _tensors(graph):
        if element not in _TYPES and name != "images":
            raise TensorRTError(f"{where}{name!r} is {TensorProto.DataType.Name(element)}, which TensorRT has not")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero_point = weights.get(node.input[2])
            if zero_point is None or numpy_helper.to_array(zero_point).any():
                raise TensorRTError(f"{_name(node)} has a zero point other than 0: TensorRT quantises symmetrically")


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, str, int]]:
    for tensor in graph.initializer:
        yield "initializer ", tensor.name, tensor.data_type
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for output in filter(None, node.output):
            yield f"{_name(node)}: its output ", output, types.get(output, TensorProto.UNDEFINED)


def _name(node: onnx.NodeProto) -> str:
    return f"node {node.name or node.output[0]!r} ({node.op_type})"
