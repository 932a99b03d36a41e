"""The classic TensorRT builder, for 10.12 and above and for 11 alike: ONNX -> plan, which an EPContext model names."""

import importlib
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import helper

from model_export.tensorrt.cache_key import cache_key
from model_export.tensorrt.errors import TensorRTError
from model_export.tensorrt.profile import Profile
from model_export.training.atomic import replacing
from service.engines.gpu.device import Gpu

_WORKSPACE = 4 << 30  # bytes that a layer's fastest kernel may use


def import_tensorrt() -> Any:
    """NVIDIA's Python package. Raises TensorRTError if it is missing or its libraries are."""
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise TensorRTError(f"the package tensorrt and its libraries are not installed: {error}") from None


class Builder:
    """Compiles with TensorRT's Python API; engines and kernel timings are kept in `cache` for the next time."""

    provider: Final = "TensorrtExecutionProvider"

    def __init__(self, gpu: Gpu, cache: Path, tensorrt: Any = None) -> None:
        self._trt = tensorrt or import_tensorrt()
        self._gpu = gpu
        self._cache = cache
        self.version: str = self._trt.__version__

    def compile(self, model: bytes, out: Path, profile: Profile) -> None:
        """Write the plan beside `out`, and `out` itself: one EPContext node that names it.

        Raises TensorRTError with the parser's errors, or if no engine comes out.
        """
        kept = self._cache / f"{cache_key(model, self.version, self._gpu, profile)}.engine"
        if not kept.exists():
            plan = self._build(model, profile)
            with replacing(kept) as path:
                path.write_bytes(plan)
        plan_path = out.with_name("model.engine")
        plan_path.write_bytes(kept.read_bytes())
        out.write_bytes(_context_model(model, plan_path.name, self._gpu))

    def _build(self, model: bytes, profile: Profile) -> bytes:
        trt = self._trt
        logger = trt.Logger(trt.Logger.WARNING)
        builder = trt.Builder(logger)
        # Precision is the ONNX's in both generations: 10 must be told, 11 knows nothing else.
        strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model):
            errors = "; ".join(" ".join(str(parser.get_error(n)).split()) for n in range(parser.num_errors))
            raise TensorRTError(f"TensorRT {self.version} cannot parse the model: {errors}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
        config.clear_flag(trt.BuilderFlag.TF32)  # fp32 in the ONNX is fp32, as the parity gate promised
        _, *rest = _shape(model)
        shapes = builder.create_optimization_profile()
        shapes.set_shape("images", *((batch, *rest) for batch in profile))
        config.add_optimization_profile(shapes)
        # Timings hold for one TensorRT on one GPU; of another they would be refused, so they have names of their own.
        timings = self._cache / f"{self._gpu.name.replace(' ', '-')}-{self.version}.timing"
        timing_cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
        config.set_timing_cache(timing_cache, ignore_mismatch=False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise TensorRTError(f"TensorRT {self.version} built no engine; its log above says why")
        with replacing(timings) as path:
            path.write_bytes(bytes(timing_cache.serialize()))
        return bytes(plan)


def _shape(model: bytes) -> list[int]:
    """Of `images`; 0 stands for the batch."""
    (images,) = onnx.load_from_string(model).graph.input
    return [dim.dim_value for dim in images.type.tensor_type.shape.dim]


def _context_model(model: bytes, plan: str, gpu: Gpu) -> bytes:
    """An ONNX file with the model's inputs and outputs around one EPContext node (onnxruntime's contrib operators)."""
    graph = onnx.load_from_string(model).graph
    node = helper.make_node(
        "EPContext",
        ["images"],
        [output.name for output in graph.output],
        domain="com.microsoft",
        main_context=1,
        embed_mode=0,  # the plan lies beside it
        ep_cache_context=plan,
        source=Builder.provider,
        hardware_architecture=gpu.compute_capability.replace(".", ""),
    )
    context = helper.make_model(
        helper.make_graph([node], "tensorrt", list(graph.input), list(graph.output)),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
        producer_name="mixer-serving",
    )
    serialized: bytes = context.SerializeToString(deterministic=True)
    return serialized
