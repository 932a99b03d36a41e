"""Which engine runs a bundle on a GPU: the one whose provider was asked for."""

from service.bundles.bundle import Bundle
from service.engines.engine import Engine, EngineError
from service.engines.gpu import cuda_engine
from service.engines.gpu.cuda_engine import CudaEngine
from service.engines.gpu.tensorrt_engine import TensorRTEngine

GPU_PROVIDERS = (cuda_engine.PROVIDER, "NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider")


def make_gpu_engine(bundle: Bundle, threads: int, providers: list[str]) -> Engine:
    """The engine of `providers[0]`, one of GPU_PROVIDERS, on the first GPU; `threads` are a CPU's and do not matter.

    Raises EngineError if it cannot run every operator there, or if `providers` names a second one to fall back to.
    """
    provider, *others = providers
    if others:
        raise EngineError(f"{provider} runs a model whole or not at all: MIXER_PROVIDERS names {', '.join(others)} too")
    if provider not in GPU_PROVIDERS:
        raise EngineError(f"{provider} is no GPU provider; those are {', '.join(GPU_PROVIDERS)}")
    return CudaEngine(bundle) if provider == cuda_engine.PROVIDER else TensorRTEngine(bundle, provider)
