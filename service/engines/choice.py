"""The engines that can run a bundle here, and the choice among them."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import Bundle
from service.bundles.manifest import Precision
from service.engines.engine import Engine, EngineError, RunPass, timed_pass
from service.engines.gpu.gpu_engine import GPU_PROVIDERS, make_gpu_engine
from service.engines.measuring import PassSeconds, batch_sizes_up_to, best_rate, measure_pass_seconds
from service.engines.onnx_engine import OnnxEngine
from service.settings import Settings

Build = Callable[[], Engine]

_CPU = "CPUExecutionProvider"
_TRIAL_BATCH = 8


def cpu_engines(model: Path, precision: Precision, threads: int) -> dict[str, list[Build]]:
    """How to build each installed engine that runs the precision on CPUs, the default first.

    The second of a list splits a batch over the threads instead of letting all of them work on each image.
    """
    engines: dict[str, list[Build]] = {}
    if precision != "bf16":  # onnxruntime has no bfloat16 arithmetic on CPUs
        engines["onnxruntime"] = [partial(OnnxEngine, model, threads, [_CPU])]
    if importlib.util.find_spec("openvino"):
        engines["openvino"] = [partial(_openvino, model, threads, precision, way) for way in sorted({1, threads})]
    return engines


def _openvino(model: Path, threads: int, precision: Precision, streams: int) -> Engine:
    try:
        from service.engines.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise EngineError(f"openvino is installed but cannot be imported: {error}") from None
    return OpenVinoEngine(model, threads, precision, streams)


def candidates(bundle: Bundle, threads: int, settings: Settings) -> dict[str, list[Build]]:
    """The engines that the settings allow for a bundle; raises EngineError if there is none."""
    model, precision = bundle.model_path, bundle.manifest.precision
    if settings.providers[0] in GPU_PROVIDERS:
        return {settings.providers[0]: [partial(make_gpu_engine, bundle, threads, settings.providers)]}
    if settings.providers != [_CPU]:
        return {"onnxruntime": [partial(OnnxEngine, model, threads, settings.providers)]}
    engines = cpu_engines(model, precision, threads)
    if not engines:
        raise EngineError(f"{model}: {precision} runs on a CPU only with openvino, which is not installed")
    if settings.engine == "auto":
        return engines
    if settings.engine not in engines:
        raise EngineError(
            f"MIXER_ENGINE {settings.engine} cannot run {model} ({precision}); here {', '.join(engines)} can"
        )
    return {settings.engine: engines[settings.engine]}


@dataclass(frozen=True)
class Choice:
    """The engine to serve with, its pass times, and how every candidate fared, by name."""

    engine: Engine
    curve: PassSeconds
    golden_max_abs_error: float
    considered: dict[str, str]


def choose_engine(
    candidates: dict[str, list[Build]],
    prove: Callable[[Engine], float],
    image_size: int,
    max_batch_size: int,
    run_pass: RunPass = timed_pass,
) -> Choice:
    """The fastest candidate that reproduces the golden images; `run_pass` runs the passes that are measured.

    `prove` returns the largest absolute error or raises GoldenMismatch. If no candidate serves, what stopped the
    first one is raised: EngineError, GoldenMismatch, or what its library raises.
    """
    trial = min(_TRIAL_BATCH, max_batch_size)
    considered: dict[str, str] = {}
    failures: list[Exception] = []
    best: tuple[float, str, Engine, float] | None = None
    for name, (build, *_) in candidates.items():
        try:
            engine = build()
            error = prove(engine)
            rate = best_rate(measure_pass_seconds(engine, image_size, [trial], run_pass))
        except Exception as failure:  # whatever a library raises, another may still serve
            considered[name] = str(failure)
            failures.append(failure.with_traceback(None))  # which would hold the engine, and itself
            continue
        considered[name] = f"{engine.name}: {rate:.1f} img/s in batches of {trial}"
        if best is None or rate > best[0]:
            best = rate, name, engine, error
    if best is None:
        raise failures[0]
    _, name, engine, error = best
    sizes = batch_sizes_up_to(max_batch_size)
    curve = measure_pass_seconds(engine, image_size, sizes, run_pass)
    for build in candidates[name][1:]:
        try:
            other = build()
            prove(other)
            other_curve = measure_pass_seconds(other, image_size, sizes, run_pass)
        except Exception as failure:
            considered[f"{name}, another way"] = str(failure)
            continue
        if faster := {size for size in sizes if other_curve[size] < curve[size]}:
            engine = BySize({size: other if size in faster else engine for size in sizes})
            curve = {size: min(curve[size], other_curve[size]) for size in sizes}
    return Choice(engine, curve, error, considered)


class BySize:
    """Each batch size on the engine that runs it fastest (see `service.engines.engine.Engine`)."""

    def __init__(self, engines: dict[int, Engine]) -> None:
        """`engines` by batch size; a size between two goes with the larger."""
        self._engines = dict(sorted(engines.items()))
        names = {engine.name: f"{engine.name} for {self._sizes_of(engine)}" for engine in self._engines.values()}
        self.name = "; ".join(names.values())
        self.threads = max(engine.threads for engine in self._engines.values())

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> float32 [N, classes]."""
        size = min((size for size in self._engines if size >= len(pixels)), default=max(self._engines))
        return self._engines[size].run(pixels)

    def _sizes_of(self, engine: Engine) -> str:
        return ", ".join(str(size) for size, chosen in self._engines.items() if chosen is engine)
