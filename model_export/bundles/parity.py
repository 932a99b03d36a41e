"""The gate: every engine at hand, through the service's own pipeline, against torch with explicit normalisation."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from model_export.bundles.agreement import Agreement, agreement, cosines, tolerance_of
from model_export.errors import ExportError
from service.arrays import LOGITS, LogitBatch, Outputs, PixelBatch, Pixels
from service.bundles.manifest import Gate, Parity, Precision, Preprocessing
from service.engines.choice import cpu_engines
from service.engines.engine import Engine, EngineError
from service.images.preprocess import preparation

BATCH_SIZES = (1, 3, 8)
MAX_PIXELS = 100_000_000

GATES = {
    "int8": Gate(cosine=0.999, top1_agreement=0.99),
    "fp16": Gate(cosine=0.9999, top1_agreement=0.999),
    "bf16": Gate(cosine=0.999, top1_agreement=0.995),
}


Gates = dict[str, Gate]  # by output


@dataclass(frozen=True)
class EngineCheck:
    """How one engine answered, and how fast."""

    parity: dict[str, Parity]  # of each output, the model's answer first
    worst: int  # the image of whose answer the cosine is lowest
    images_per_second: float  # on one core, of the fastest pass

    @property
    def of_answer(self) -> Parity:
        """That of the logits, or without a head of the features."""
        return next(iter(self.parity.values()))


class GateError(ExportError):
    """The exported model does not answer as its reference does; the message has the figures."""


def pipeline(preprocessing: Preprocessing) -> Callable[[bytes], Pixels]:
    """Encoded image -> pixels [H, W, 3] by the service's own decode and preprocess steps."""
    prepare = preparation(preprocessing, MAX_PIXELS)
    return lambda data: prepare(data)[0]


def gates_of(precision: Precision, reference: Outputs, told: Mapping[str, float] | None = None) -> Gates:
    """What each output has to reach in a precision; in float32 only its rounding (see `tolerance_of`).

    `told` are figures that replace these; top-1 is the logits' alone.
    """

    def gate(output: str, expected: LogitBatch) -> Gate:
        usual = GATES.get(precision) or Gate(max_abs_error=tolerance_of(expected), top1_agreement=1.0)
        figures = usual.model_dump() | dict(told or {})
        return Gate.model_validate(figures if output == LOGITS else figures | {"top1_agreement": None})

    return {output: gate(output, expected) for output, expected in reference.items()}


def check_parity(
    model: Path,
    precision: Precision,
    pixels: PixelBatch,
    reference: Outputs,
    gates: Gates,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
) -> list[EngineCheck]:
    """Run a model on each engine that is installed, at several batch sizes; the default engine comes first.

    Checked are the outputs that are in `reference`. Raises GateError naming the engine whose answers miss the gate,
    EngineError if none can run the model.
    """
    check_runnable(precision)
    engines = [build() for build in cpu_engines(model, precision, threads=1).values()]
    return [_check(engine, pixels, reference, gates, batch_sizes) for engine in engines]


def check_runnable(precision: Precision) -> None:
    """Raises EngineError if no engine here runs the precision."""
    if not cpu_engines(Path(), precision, threads=1):
        raise EngineError(f"{precision} runs on a CPU only with openvino: pip install openvino")


def _check(
    engine: Engine, pixels: PixelBatch, reference: Outputs, gates: Gates, batch_sizes: tuple[int, ...]
) -> EngineCheck:
    found = {output: _Found(len(pixels)) for output in reference}
    seconds_an_image = []
    # Whole batches only, wrapping round, so that each size is really run at.
    orders = [(np.arange(-(-len(pixels) // size) * size) % len(pixels)).reshape(-1, size) for size in batch_sizes]
    with tqdm(total=sum(order.size for order in orders), desc=engine.name, unit="image", leave=False) as progress:
        for order in orders:
            answers = []
            for batch in order:
                start = time.perf_counter()
                answers.append(engine.outputs(pixels[batch]))
                seconds_an_image.append((time.perf_counter() - start) / len(batch))
                progress.update(len(batch))
            places = order.ravel()
            for output, expected in reference.items():
                found[output].add(np.concatenate([answer[output] for answer in answers]), expected[places], places)
    parity = {output: _judged(engine, output, found[output], gates[output], batch_sizes) for output in reference}
    answer = next(iter(reference))
    return EngineCheck(parity, int(found[answer].cosines.argmin()), 1 / min(seconds_an_image))


class _Found:
    """What comparing one output came to, the worst of all batch sizes."""

    def __init__(self, images: int) -> None:
        self.results: list[Agreement] = []
        self.cosines = np.ones(images)  # the lowest of each image

    def add(self, given: LogitBatch, expected: LogitBatch, places: npt.NDArray[np.intp]) -> None:
        self.results.append(agreement(given, expected))
        np.minimum.at(self.cosines, places, cosines(given, expected))


def _judged(engine: Engine, output: str, found: _Found, gate: Gate, batch_sizes: tuple[int, ...]) -> Parity:
    error = max(result.max_abs_error for result in found.results)
    cosine = min(result.cosine for result in found.results)
    top1 = min(result.top1 for result in found.results) if output == LOGITS else None
    misses = []
    if gate.max_abs_error is not None and not error <= gate.max_abs_error:
        misses.append(f"max abs error {error:.3g} (gate {gate.max_abs_error:.3g})")
    if gate.cosine is not None and not cosine >= gate.cosine:
        misses.append(f"cosine {cosine:.7g} (gate {gate.cosine:.7g})")
    if gate.top1_agreement is not None and top1 is not None and not top1 >= gate.top1_agreement:
        misses.append(f"top-1 agreement {top1:.2%} (gate {gate.top1_agreement:.1%})")
    if misses:
        of_features = "" if output == LOGITS else f", {output}"
        raise GateError(f"parity gate failed on {engine.name}{of_features}: {', '.join(misses)}")
    return Parity(
        reference=f"torch {torch.__version__.partition('+')[0]} float32, explicit normalisation",
        engine=engine.name,
        images=len(found.cosines),
        batch_sizes=list(batch_sizes),
        max_abs_error=error,
        cosine=cosine,
        top1_agreement=top1,
        gate=gate,
        passed=True,
    )
