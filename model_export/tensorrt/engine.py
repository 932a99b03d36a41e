"""A staged bundle whose model.onnx passed its gate -> the same with an engine for this machine's GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from model_export.tensorrt.builder import Builder
from model_export.tensorrt.errors import TensorRTError
from model_export.tensorrt.input_check import check_input
from model_export.tensorrt.profile import Profile
from model_export.tensorrt.rtx import Rtx
from model_export.tensorrt.uint8_input import cast_first
from service.bundles.bundle import sha256_of
from service.bundles.manifest import TensorRT
from service.engines.gpu.device import Gpu, NoGpu, find_gpu

Way = Literal["rtx", "builder"]
CompiledEngine = tuple[dict[str, str], TensorRT]  # {file: sha256}, and the manifest's part

_FOLDER = "tensorrt"
_MODEL = "model_ctx.onnx"


class Compiler(Protocol):
    """One way to compile."""

    @property
    def provider(self) -> Literal["NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider"]:
        """The execution provider that loads the result."""

    @property
    def version(self) -> str:
        """TensorRT's version."""

    def compile(self, model: bytes, out: Path, profile: Profile) -> None:
        """Write the EPContext model `out`, and beside it whatever it names."""


def find_compiler(way: Way, cache: Path, gpu: Callable[[], Gpu] = find_gpu) -> tuple[Compiler, Gpu]:
    """What compiles here, and for which GPU. Raises TensorRTError or EngineError if nothing can."""
    try:
        here = gpu()
    except NoGpu as error:
        raise TensorRTError(f"an engine is compiled on the machine whose GPU it is for, but {error}") from None
    return (Rtx() if way == "rtx" else Builder(here, cache)), here


def add_engine(bundle: Path, compiler: Compiler, gpu: Gpu, profile: Profile) -> CompiledEngine:
    """Compile <bundle>/model.onnx into <bundle>/tensorrt/; returns what the manifest has to say of it.

    Raises TensorRTError if TensorRT would not take the model, or does not compile it.
    """
    model = cast_first((bundle / "model.onnx").read_bytes())
    check_input(model)
    folder = bundle / _FOLDER
    folder.mkdir()
    compiler.compile(model, folder / _MODEL, profile)
    return {f"{_FOLDER}/{path.name}": sha256_of(path) for path in sorted(folder.iterdir())}, TensorRT(
        provider=compiler.provider,
        model=f"{_FOLDER}/{_MODEL}",
        version=compiler.version,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver_api=gpu.driver_api,
        profile=profile,
    )
