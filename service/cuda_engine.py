"""The engine on a GPU: onnxruntime's CUDA provider with bound inputs and CUDA graphs."""

from types import ModuleType
from typing import Any

import onnxruntime

from service.bound_passes import BUCKETS, BoundPasses
from service.bundle import Bundle
from service.engine import LogitBatch, PixelBatch
from service.onnx_engine import EngineError

PROVIDER = "CUDAExecutionProvider"


class CudaEngine:
    """A bundle's model.onnx on one GPU (see `service.engine.Engine`): "core is one accelerator", so one thread.

    Raises EngineError if any part of the model would not run on the GPU.
    """

    threads = 1

    def __init__(self, bundle: Bundle, buckets: tuple[int, ...] = BUCKETS, ort: ModuleType = onnxruntime) -> None:
        """`ort` stands for the onnxruntime module: the GPU build, which has the same name as the CPU one."""
        if PROVIDER not in (installed := ort.get_available_providers()):
            raise EngineError(
                f"providers not installed: {PROVIDER} (package onnxruntime-gpu); installed: {', '.join(installed)}"
            )
        ort.preload_dlls()  # CUDA and cuDNN from their Python packages, if they are not the system's
        manifest = bundle.manifest
        session = self._open(ort, bundle)
        self.passes = BoundPasses(
            session,
            manifest.image_size,
            manifest.classes,
            lambda shape, element: ort.OrtValue.ortvalue_from_shape_and_type(shape, element, "cuda", 0),
            graph_option="gpu_graph_id",
            buckets=buckets,
        )

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> float32 [N, classes]."""
        return self.passes.run(pixels)

    @staticmethod
    def _open(ort: ModuleType, bundle: Bundle) -> Any:
        options = ort.SessionOptions()
        # Refuse a model of which any operator would run on the CPU, instead of copying to and fro in silence.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider_options = {
            "device_id": "0",
            "enable_cuda_graph": "1",
            # TF32 rounds fp32 to 10 bits of mantissa, which is not what the parity gate promised.
            "use_tf32": "0" if bundle.manifest.precision == "fp32" else "1",
            "cudnn_conv_algo_search": "HEURISTIC",  # no timing race: every start takes the same algorithm
        }
        try:
            session = ort.InferenceSession(
                bundle.model_path, options, providers=[(PROVIDER, provider_options)], enable_fallback=False
            )
        except Exception as error:  # onnxruntime raises classes of its own that share no public base
            raise EngineError(f"{bundle.model_path}: {error}") from error
        if session.get_providers()[0] != PROVIDER:
            raise EngineError(f"{PROVIDER} did not start; onnxruntime fell back to {session.get_providers()}")
        return session
