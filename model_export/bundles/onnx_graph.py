"""The served network as an ONNX graph, written in the form that engines run fastest.

What a tracer would write computes the same and runs slower; docs/fast.md has the measurements:

- the stem is one matrix product over patches, cut out of the image while it is still bytes;
- token mixing multiplies from the left, W x, so that nothing is transposed;
- a LayerNorm's scale and shift are absorbed by the product behind it where that is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from model_export.bundles.onnx_nodes import OnnxNodes
from model_export.variants import MixerConfig
from service.arrays import FEATURES, LOGITS
from service.bundles.manifest import Precision, Preprocessing

OPSET = 20  # the first with a Gelu operator, which engines fuse; the decomposed form they do not
_IR_VERSION = 10

Array = npt.NDArray[np.float32]

_FLOAT_TYPES = {
    "fp32": (np.float32, TensorProto.FLOAT),
    "int8": (np.float32, TensorProto.FLOAT),
    "fp16": (np.float16, TensorProto.FLOAT16),
    "bf16": (ml_dtypes.bfloat16, TensorProto.BFLOAT16),
}


@dataclass(frozen=True)
class LayerInput:
    """What a dense layer reads on the calibration images: all that quantising it needs."""

    low: float  # below and above these, values are clipped
    high: float
    mean: Array  # [K], of each input feature


@dataclass(frozen=True)
class MixerGraph:
    """An ONNX model, and the tensors that its dense layers read by the layers' names."""

    model: onnx.ModelProto
    layer_inputs: dict[str, str]


def mixer_graph(
    config: MixerConfig,
    weights: Mapping[str, Array],
    preprocessing: Preprocessing,
    precision: Precision = "fp32",
    quantised: Mapping[str, LayerInput] | None = None,
) -> MixerGraph:
    """Write the graph of a Mixer whose weights go by the names of MlpMixer's parameters.

    Input `images` uint8 [N, H, W, 3], N dynamic; outputs `logits` float32 [N, classes], unless there is no head, and
    `features` float32 [N, C], the pooled representation before it. fp16 and bf16 compute
    everything in 16 bits but LayerNorm's statistics, pooling and head; int8 the products of the layers in `quantised`
    in integers and all else in float32.
    """
    return _MixerGraph(config, weights, preprocessing, precision, quantised or {}).build()


class _MixerGraph:
    def __init__(
        self,
        config: MixerConfig,
        weights: Mapping[str, Array],
        preprocessing: Preprocessing,
        precision: Precision,
        quantised: Mapping[str, LayerInput],
    ) -> None:
        self.config, self.weights, self.preprocessing, self.quantised = config, weights, preprocessing, quantised
        self.sixteen_bits = precision in ("fp16", "bf16")
        float_type, self.onnx_float = _FLOAT_TYPES[precision]
        self.nodes = OnnxNodes(float_type)
        self.layer_inputs: dict[str, str] = {}

    def build(self) -> MixerGraph:
        config = self.config
        x = self.stem()
        for block in range(config.layers):
            x = self.mixer_block(f"blocks.{block}", x)
        x = self.normalised("pre_head_layer_norm", x)
        if self.sixteen_bits:
            x = self.nodes.add("pre_head_layer_norm.float", "Cast", x, to=TensorProto.FLOAT)
        x = self.nodes.add("pool", "ReduceMean", x, self.nodes.shape("pool.axes", 1), keepdims=0)
        if config.classes:
            # Pooling commutes with scale and shift, so the head absorbs them too.
            weight, bias = self.absorbing("pre_head_layer_norm", "head")
            y = self.nodes.add("head.product", "MatMul", x, self.nodes.constant32("head.weight", weight))
            self.nodes.add(LOGITS, "Add", y, self.nodes.constant32("head.bias", bias))
        scale, shift = (self.weights[f"pre_head_layer_norm.{part}"] for part in ("weight", "bias"))
        x = self.nodes.add("features.scaled", "Mul", x, self.nodes.constant32("features.scale", scale))
        self.nodes.add(FEATURES, "Add", x, self.nodes.constant32("features.shift", shift))
        widths = ({LOGITS: config.classes} if config.classes else {}) | {FEATURES: config.hidden}
        side = config.image_size
        graph = helper.make_graph(
            self.nodes.nodes,
            "mlp_mixer",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", side, side, 3])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in widths.items()],
            self.nodes.initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="mixer-serving")
        return MixerGraph(model, self.layer_inputs)

    def stem(self) -> str:
        """Pixels [N, H, W, 3] -> tokens [N, S, C]."""
        patch, per_side = self.config.patch, self.config.image_size // self.config.patch
        add, shape = self.nodes.add, self.nodes.shape
        x = add("stem.split", "Reshape", "images", shape("stem.grid", 0, per_side, patch, per_side, patch * 3))
        x = add("stem.cut", "Transpose", x, perm=[0, 1, 3, 2, 4])
        x = add("stem.patches", "Reshape", x, shape("stem.tokens", 0, per_side**2, patch * patch * 3))
        # Bytes are read as (x - zero) / unit; 16 bits hold (x - 128) / 128 exactly, and products of small numbers
        # of either sign lose nothing to cancellation.
        zero, unit = (128, 128) if self.sixteen_bits else (0, 1)
        if "stem" not in self.quantised:
            x = add("stem.cast", "Cast", x, to=self.onnx_float)
        if self.sixteen_bits:
            x = add("stem.centred", "Sub", x, self.nodes.constant("stem.zero", zero))
            x = add("stem.input", "Mul", x, self.nodes.constant("stem.unit", 1 / unit))
        return self.rows("stem", x, *self.folded_stem(zero, unit))

    def folded_stem(self, zero: int, unit: int) -> tuple[Array, Array]:
        """The stem for (bytes - zero) / unit instead of (bytes / 255 - mean) / std: weight [3 P P, C], bias [C].

        Exact because patches have no padding; computed in float64.
        """
        weight = self.weights["stem.weight"].astype(np.float64).transpose(2, 3, 1, 0)  # [P, P, 3, C]
        mean, std = (np.array(v)[:, None] for v in (self.preprocessing.mean, self.preprocessing.std))
        bias = self.weights["stem.bias"] + (weight * (zero / 255 - mean) / std).sum(axis=(0, 1, 2))
        weight = (weight * unit / 255 / std).reshape(-1, self.config.hidden)
        return weight.astype(np.float32), bias.astype(np.float32)

    def mixer_block(self, block: str, x: str) -> str:
        """[N, S, C] -> [N, S, C]."""
        norm, channels = f"{block}.layer_norm_1", f"{block}.channel_mixing"
        y = self.token_mixing(f"{block}.token_mixing", self.layer_norm(f"{block}.layer_norm_0", x))
        x = self.nodes.add(f"{block}.skip_0", "Add", x, y)
        y = self.rows(f"{channels}.dense_0", self.normalised(norm, x), *self.absorbing(norm, f"{channels}.dense_0"))
        y = self.rows(f"{channels}.dense_1", self.gelu(f"{channels}.gelu", y), *self.dense(f"{channels}.dense_1"))
        return self.nodes.add(f"{block}.skip_1", "Add", x, y)

    def token_mixing(self, mixing: str, x: str) -> str:
        """[N, S, C] -> [N, S, C]."""
        first, second = self.dense(f"{mixing}.dense_0"), self.dense(f"{mixing}.dense_1")
        if not self.sixteen_bits:
            y = self.gelu(f"{mixing}.gelu", self.columns(f"{mixing}.dense_0", x, *first))
            return self.columns(f"{mixing}.dense_1", y, *second)
        # 16-bit kernels are so much faster with the constant on the right that the transposes pay.
        y = self.nodes.add(f"{mixing}.columns", "Transpose", x, perm=[0, 2, 1])
        y = self.gelu(f"{mixing}.gelu", self.rows(f"{mixing}.dense_0", y, *first))
        y = self.rows(f"{mixing}.dense_1", y, *second)
        return self.nodes.add(f"{mixing}.rows", "Transpose", y, perm=[0, 2, 1])

    def rows(self, layer: str, x: str, weight: Array, bias: Array) -> str:
        """x W + b: [..., K] -> [..., M] by a weight [K, M]."""
        self.layer_inputs[layer] = x
        if layer in self.quantised:
            spec = self.quantised[layer]
            rounded, scales = _rounded(weight)
            bias = bias + spec.mean @ (weight - rounded * scales)
            x = (
                self.bytes(layer, x)
                if layer == "stem"
                else self.nodes.quantize(f"{layer}.input", x, *_asymmetric(spec))
            )
            integers = self.nodes.integers(f"{layer}.weight", rounded)
            w = self.nodes.dequantize(f"{layer}.weight", integers, scales, np.zeros_like(scales, np.int8), axis=1)
        else:
            w = self.nodes.constant(f"{layer}.weight", weight)
        x = self.nodes.add(f"{layer}.product", "MatMul", x, w)
        return self.nodes.add(layer, "Add", x, self.nodes.constant(f"{layer}.bias", bias))

    def bytes(self, layer: str, x: str) -> str:
        """Pixels are quantised as they come."""
        return self.nodes.dequantize(f"{layer}.input", x, 1.0, np.uint8(0))

    def columns(self, layer: str, x: str, weight: Array, bias: Array) -> str:
        """Transposed x W + b: [N, K, C] -> [N, M, C] by a weight [K, M]."""
        self.layer_inputs[layer] = x
        add, constant = self.nodes.add, self.nodes.constant
        if layer in self.quantised:
            # Engines multiply two integer matrices of which the constant is the left one only if both are symmetric
            # and scaled as a whole: the input is centred first, for which the bias makes up, and the rows of the
            # product are scaled afterwards.
            spec = self.quantised[layer]
            rounded, scales = _rounded(weight)
            centre = np.float32((spec.low + spec.high) / 2)
            bias = bias + centre * weight.sum(axis=0) + (spec.mean - centre) @ (weight - rounded * scales)
            x = add(f"{layer}.centred", "Sub", x, constant(f"{layer}.centre", centre))
            x = self.nodes.quantize(f"{layer}.input", x, max(spec.high - spec.low, 1e-12) / 254, np.int8(0))
            integers = self.nodes.integers(f"{layer}.weight", rounded.T)
            x = add(
                f"{layer}.product", "MatMul", self.nodes.dequantize(f"{layer}.weight", integers, 1.0, np.int8(0)), x
            )
            x = add(f"{layer}.scaled", "Mul", x, constant(f"{layer}.scales", scales[:, None]))
        else:
            x = add(f"{layer}.product", "MatMul", constant(f"{layer}.weight", weight.T), x)
        return add(layer, "Add", x, constant(f"{layer}.bias", bias[:, None]))

    def gelu(self, name: str, x: str) -> str:
        return self.nodes.add(name, "Gelu", x, approximate="tanh" if self.config.gelu == "tanh" else "none")

    def layer_norm(self, norm: str, x: str) -> str:
        scale, shift = (
            self.nodes.constant(f"{norm}.{part}", self.weights[f"{norm}.{part}"]) for part in ("weight", "bias")
        )
        return self.nodes.add(norm, "LayerNormalization", x, scale, shift, epsilon=self.config.layer_norm_eps)

    def normalised(self, norm: str, x: str) -> str:
        """A LayerNorm without its scale and shift."""
        ones = self.nodes.constant(f"{norm}.ones", np.ones(self.config.hidden))
        return self.nodes.add(norm, "LayerNormalization", x, ones, epsilon=self.config.layer_norm_eps)

    def dense(self, layer: str) -> tuple[Array, Array]:
        """A layer's weight as [K, M], and its bias [M]."""
        return self.weights[f"{layer}.weight"].T, self.weights[f"{layer}.bias"]

    def absorbing(self, norm: str, layer: str) -> tuple[Array, Array]:
        """The layer with the scale and shift of the LayerNorm before it: (x s + t) W + b = x (s W) + (t W + b)."""
        weight, bias = self.dense(layer)
        scale, shift = (self.weights[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        return (scale[:, None] * weight).astype(np.float32), (shift @ weight + bias).astype(np.float32)


def _rounded(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """Int8 weights [K, M] and the scales [M] of their columns."""
    scales = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny * 127) / np.float32(127)
    return np.rint(weight / scales).astype(np.int8), scales


def _asymmetric(spec: LayerInput) -> tuple[float, np.uint8]:
    """Scale and zero point that spread the range, widened to hold 0, over 0..255."""
    low, high = min(spec.low, 0.0), max(spec.high, 0.0)
    scale = max(high - low, 1e-12) / 255
    return scale, np.uint8(round(-low / scale))
