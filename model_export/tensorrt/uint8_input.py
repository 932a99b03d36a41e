"""TensorRT takes uint8 into a Cast and nowhere else (NVIDIA/TensorRT#3985): the cast is put first."""

import onnx

_MOVES = ("Transpose", "Reshape")  # they carry values from place to place, of whatever type


def cast_first(model: bytes) -> bytes:
    """The same model with the Cast of its input before the transposes and reshapes that lead to it.

    Exact: casting and moving values commute. A model without such a chain is returned as it is.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    tensor = graph.input[0].name
    moves: list[onnx.NodeProto] = []
    while True:
        readers = [node for node in graph.node if tensor in node.input]
        if len(readers) != 1 or readers[0].op_type not in ("Cast", *_MOVES):
            return model
        if readers[0].op_type == "Cast":
            break
        moves.append(readers[0])
        tensor = readers[0].output[0]
    if not moves:
        return model
    position = list(graph.node).index(moves[0])
    cast = onnx.NodeProto()
    cast.CopyFrom(readers[0])
    graph.node.remove(readers[0])
    moves[-1].output[0] = cast.output[0]
    cast.input[0], cast.output[0] = graph.input[0].name, f"{graph.input[0].name}_cast"
    moves[0].input[0] = cast.output[0]
    graph.node.insert(position, cast)
    del graph.value_info[:]  # the moved tensors have another type now
    rewritten: bytes = proto.SerializeToString(deterministic=True)
    return rewritten
