"""The engine on a GPU: onnxruntime's CUDA provider with bound inputs and CUDA graphs."""

from types import ModuleType

import onnxruntime

from service.arrays import LogitBatch, Outputs, PixelBatch
from service.bundles.bundle import Bundle
from service.engines.gpu.bound_passes import BUCKETS, BoundPasses
from service.engines.gpu.session import open_gpu_session

PROVIDER = "CUDAExecutionProvider"


class CudaEngine:
    """A bundle's model.onnx on one GPU (see `service.engines.engine.Engine`).

    Raises EngineError if any part of the model would not run on the GPU.
    """

    def __init__(self, bundle: Bundle, buckets: tuple[int, ...] = BUCKETS, ort: ModuleType = onnxruntime) -> None:
        """`ort` stands for the onnxruntime module: the GPU build, which has the same name as the CPU one."""
        manifest = bundle.manifest
        self.name = f"onnxruntime {onnxruntime.__version__}, CUDA"
        options = {
            "device_id": "0",
            "enable_cuda_graph": "1",
            # TF32 rounds fp32 to 10 bits of mantissa, which is not what the parity gate promised.
            "use_tf32": "0" if manifest.precision == "fp32" else "1",
            "cudnn_conv_algo_search": "HEURISTIC",  # no timing race: every start takes the same algorithm
        }
        self.passes = BoundPasses(
            open_gpu_session(ort, bundle.model_path, PROVIDER, options),
            manifest.image_size,
            manifest.outputs,
            lambda shape, element: ort.OrtValue.ortvalue_from_shape_and_type(shape, element, "cuda", 0),
            graph_option="gpu_graph_id",
            buckets=buckets,
        )

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> logits, float32 [N, classes], or without a head features."""
        return self.passes.run(pixels)

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same pass -> all outputs by name."""
        return self.passes.outputs(pixels)
