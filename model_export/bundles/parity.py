"""The gate: every engine at hand, through the service's own pipeline, against torch with explicit normalisation."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model_export.bundles.agreement import agreement, cosines, tolerance_of
from model_export.errors import ExportError
from service.arrays import LogitBatch, PixelBatch, Pixels
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


@dataclass(frozen=True)
class EngineCheck:
    """How one engine answered, and how fast."""

    parity: Parity
    worst: int  # the image whose cosine is lowest
    images_per_second: float  # on one core, of the fastest pass


class GateError(ExportError):
    """The exported model does not answer as its reference does; the message has the figures."""


def pipeline(preprocessing: Preprocessing) -> Callable[[bytes], Pixels]:
    """Encoded image -> pixels [H, W, 3] by the service's own decode and preprocess steps."""
    prepare = preparation(preprocessing, MAX_PIXELS)
    return lambda data: prepare(data)[0]


def gate_of(precision: Precision, reference: LogitBatch) -> Gate:
    """What a precision has to reach; float32 only its rounding (see `tolerance_of`)."""
    return GATES.get(precision) or Gate(max_abs_error=tolerance_of(reference), top1_agreement=1.0)


def check_parity(
    model: Path,
    precision: Precision,
    pixels: PixelBatch,
    reference: LogitBatch,
    gate: Gate,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
) -> list[EngineCheck]:
    """Run a model on each engine that is installed, at several batch sizes; the default engine comes first.

    Raises GateError naming the engine whose answers miss the gate, EngineError if none can run the model.
    """
    check_runnable(precision)
    engines = [build() for build in cpu_engines(model, precision, threads=1).values()]
    return [_check(engine, pixels, reference, gate, batch_sizes) for engine in engines]


def check_runnable(precision: Precision) -> None:
    """Raises EngineError if no engine here runs the precision."""
    if not cpu_engines(Path(), precision, threads=1):
        raise EngineError(f"{precision} runs on a CPU only with openvino: pip install openvino")


def _check(
    engine: Engine, pixels: PixelBatch, reference: LogitBatch, gate: Gate, batch_sizes: tuple[int, ...]
) -> EngineCheck:
    results = []
    worst = np.ones(len(pixels))  # cosine of each image
    seconds_an_image = []
    # Whole batches only, wrapping round, so that each size is really run at.
    orders = [(np.arange(-(-len(pixels) // size) * size) % len(pixels)).reshape(-1, size) for size in batch_sizes]
    with tqdm(total=sum(order.size for order in orders), desc=engine.name, unit="image", leave=False) as progress:
        for order in orders:
            answers = []
            for batch in order:
                start = time.perf_counter()
                answers.append(engine.run(pixels[batch]))
                seconds_an_image.append((time.perf_counter() - start) / len(batch))
                progress.update(len(batch))
            logits, expected = np.concatenate(answers), reference[order.ravel()]
            results.append(agreement(logits, expected))
            np.minimum.at(worst, order.ravel(), cosines(logits, expected))
    error = max(result.max_abs_error for result in results)
    cosine = min(result.cosine for result in results)
    top1 = min(result.top1 for result in results)
    misses = []
    if gate.max_abs_error is not None and not error <= gate.max_abs_error:
        misses.append(f"max abs error {error:.3g} (gate {gate.max_abs_error:.3g})")
    if gate.cosine is not None and not cosine >= gate.cosine:
        misses.append(f"cosine {cosine:.7g} (gate {gate.cosine:.7g})")
    if not top1 >= gate.top1_agreement:
        misses.append(f"top-1 agreement {top1:.2%} (gate {gate.top1_agreement:.1%})")
    if misses:
        raise GateError(f"parity gate failed on {engine.name}: {', '.join(misses)}")
    parity = Parity(
        reference=f"torch {torch.__version__.partition('+')[0]} float32, explicit normalisation",
        engine=engine.name,
        images=len(pixels),
        batch_sizes=list(batch_sizes),
        max_abs_error=error,
        cosine=cosine,
        top1_agreement=top1,
        gate=gate,
        passed=True,
    )
    return EngineCheck(parity, int(worst.argmin()), 1 / min(seconds_an_image))
