"""The nodes and constants of an ONNX graph in the making."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


class OnnxNodes:
    """Collects nodes; every node has one output and shares its name. Float constants take the graph's float type."""

    def __init__(self, float_type: npt.DTypeLike) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._float_type = float_type

    def add(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; returns its output."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """A float constant."""
        return self._initializer(name, np.asarray(value).astype(self._float_type))

    def constant32(self, name: str, value: npt.ArrayLike) -> str:
        """A float32 constant whatever the graph's float type."""
        return self._initializer(name, np.asarray(value, np.float32))

    def shape(self, name: str, *dims: int) -> str:
        """An int64 constant: a shape or axes."""
        return self._initializer(name, np.array(dims, np.int64))

    def quantize(self, name: str, x: str, scale: float, zero_point: np.uint8 | np.int8) -> str:
        """x rounded to 8 bits and read back as float: the pair of nodes that engines turn into integer arithmetic."""
        quantised = self.add(f"{name}.quantized", "QuantizeLinear", x, *self._scale(name, scale, zero_point))
        return self.dequantize(name, quantised, scale, zero_point)

    def dequantize(
        self, name: str, x: str, scale: npt.ArrayLike, zero_point: npt.ArrayLike, axis: int | None = None
    ) -> str:
        """(x - zero point) scale, with one scale or one a slice along `axis`."""
        attributes = {} if axis is None else {"axis": axis}
        return self.add(
            f"{name}.dequantized", "DequantizeLinear", x, *self._scale(name, scale, zero_point), **attributes
        )

    def integers(self, name: str, value: npt.NDArray[np.int8]) -> str:
        """An int8 constant."""
        return self._initializer(name, value)

    def _scale(self, name: str, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> tuple[str, str]:
        return (
            self._initializer(f"{name}.scale", np.asarray(scale, np.float32)),
            self._initializer(f"{name}.zero_point", np.asarray(zero_point)),
        )

    def _initializer(self, name: str, value: npt.NDArray[np.generic]) -> str:
        if all(name != initializer.name for initializer in self.initializers[-4:]):
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
