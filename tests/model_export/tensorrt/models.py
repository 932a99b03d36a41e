"""ONNX models that show one thing."""

from onnx import TensorProto, helper


def uint8_model(*moves: tuple[str, str]) -> bytes:
    """images -> `moves` (operator, its second input or permutation) -> Cast -> Sqrt -> logits."""
    nodes, tensor = [], "images"
    for number, (operator, argument) in enumerate(moves):
        inputs = [tensor, argument] if operator == "Reshape" else [tensor]
        attributes = {"perm": [int(axis) for axis in argument]} if operator == "Transpose" else {}
        nodes.append(helper.make_node(operator, inputs, [f"move_{number}"], **attributes))
        tensor = f"move_{number}"
    nodes.append(helper.make_node("Cast", [tensor], ["cast"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Sqrt", ["cast"], ["logits"]))
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
