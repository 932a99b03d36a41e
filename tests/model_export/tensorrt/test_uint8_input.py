import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from model_export.tensorrt.uint8_input import cast_first

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def answer(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": PIXELS})
    return np.asarray(logits)


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def uint8_model(*moves: tuple[str, str]) -> bytes:
    """images -> `moves` (operator, its second input or permutation) -> Cast -> Relu."""
    nodes, tensor = [], "images"
    for number, (operator, argument) in enumerate(moves):
        inputs = [tensor, argument] if operator == "Reshape" else [tensor]
        attributes = {"perm": [int(axis) for axis in argument]} if operator == "Transpose" else {}
        nodes.append(helper.make_node(operator, inputs, [f"move_{number}"], **attributes))
        tensor = f"move_{number}"
    nodes.append(helper.make_node("Cast", [tensor], ["cast"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Relu", ["cast"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 16, 16, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [0, -1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    serialized: bytes = proto.SerializeToString()
    return serialized


def test_the_exported_model_answers_the_same_to_the_bit(exported: bytes, model: bytes) -> None:
    (reader,) = [node for node in onnx.load_from_string(model).graph.node if "images" in node.input]
    assert reader.op_type == "Cast"
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    assert np.array_equal(answer(model), answer(exported))


def test_a_longer_chain_of_moves() -> None:
    before = uint8_model(("Transpose", "0312"), ("Reshape", "shape"))
    after = cast_first(before)
    assert operators(after) == ["Cast", "Transpose", "Reshape", "Relu"]
    assert np.array_equal(answer(after), answer(before))


def test_nothing_to_do(model: bytes) -> None:
    assert cast_first(model) == model
    arithmetic = uint8_model(("Transpose", "0312"), ("Identity", ""))  # only transposes and reshapes are known to move
    assert cast_first(arithmetic) == arithmetic
