"""The engines that can run a bundle here, and the choice among them."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.bundles.bundle import Bundle
from service.bundles.manifest import Precision
from service.engines.curve import best_rate
from service.engines.engine import Engine, EngineError
from service.engines.gpu.gpu_engine import GPU_PROVIDERS, make_gpu_engine
from service.engines.measuring import measure_pass_seconds
from service.engines.onnx_engine import OnnxEngine

Build = Callable[[], Engine]

CPU_PROVIDER = "CPUExecutionProvider"
_TRIAL_BATCH = 8


def cpu_engines(model: Path, precision: Precision, threads: int) -> dict[str, Build]:
    """How to build each installed engine that runs the precision on CPUs, the default first."""
    engines: dict[str, Build] = {}
    if precision != "bf16":  # onnxruntime has no bfloat16 arithmetic on CPUs
        engines["onnxruntime"] = partial(OnnxEngine, model, threads, [CPU_PROVIDER])
    if importlib.util.find_spec("openvino"):
        engines["openvino"] = partial(_openvino, model, threads, precision)
    return engines


def _openvino(model: Path, threads: int, precision: Precision) -> Engine:
    try:
        from service.engines.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise EngineError(f"openvino is installed but cannot be imported: {error}") from None
    return OpenVinoEngine(model, threads, precision)


def candidates(bundle: Bundle, threads: int, wanted: str, providers: list[str]) -> dict[str, Build]:
    """The engines for a bundle: the `wanted` one, or all for "auto"; `providers` are onnxruntime's.

    Raises EngineError if there is none.
    """
    model, precision = bundle.model_path, bundle.manifest.precision
    if providers[0] in GPU_PROVIDERS:
        return {providers[0]: partial(make_gpu_engine, bundle, threads, providers)}
    if providers != [CPU_PROVIDER]:
        return {"onnxruntime": partial(OnnxEngine, model, threads, providers)}
    engines = cpu_engines(model, precision, threads)
    if not engines:
        raise EngineError(f"{model}: {precision} runs on a CPU only with openvino, which is not installed")
    if wanted == "auto":
        return engines
    if wanted not in engines:
        raise EngineError(f"MIXER_ENGINE {wanted} cannot run {model} ({precision}); here {', '.join(engines)} can")
    return {wanted: engines[wanted]}


@dataclass(frozen=True)
class Choice:
    """The engine to serve with, its name among the candidates, and how each of them fared."""

    engine: Engine
    name: str
    golden_max_abs_error: float
    considered: dict[str, str]


def choose_engine(candidates: dict[str, Build], prove: Callable[[Engine], float], image_size: int) -> Choice:
    """The fastest candidate that reproduces the golden images.

    `prove` returns the largest absolute error or raises GoldenMismatch. If no candidate serves, what stopped the
    first one is raised: EngineError, GoldenMismatch, or what its library raises.
    """
    considered: dict[str, str] = {}
    failures: list[Exception] = []
    best: tuple[float, str, Engine, float] | None = None
    for name, build in candidates.items():
        try:
            engine = build()
            error = prove(engine)
            if len(candidates) == 1:
                return Choice(engine, name, error, {name: f"{engine.name}: the only one"})
            rate = best_rate(measure_pass_seconds(engine, image_size, [_TRIAL_BATCH]))
        except Exception as failure:  # whatever a library raises, another may still serve
            considered[name] = str(failure)
            failures.append(failure.with_traceback(None))  # which would hold the engine, and itself
            continue
        considered[name] = f"{engine.name}: {rate:.1f} img/s in batches of {_TRIAL_BATCH}"
        if best is None or rate > best[0]:
            best = rate, name, engine, error
    if best is None:
        raise failures[0]
    _, name, engine, error = best
    return Choice(engine, name, error, considered)
