"""The gate: onnxruntime through the service's own pipeline against torch with explicit normalisation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model_export.errors import ExportError
from service.decode import decode
from service.manifest import Gate, Parity, Preprocessing
from service.onnx_engine import OnnxEngine
from service.preprocess import Pixels, Preprocessor

BATCH_SIZES = (1, 3, 8)
_MAX_PIXELS = 100_000_000

Logits = npt.NDArray[np.float32]  # [images, classes]


class GateError(ExportError):
    """The exported model does not answer as its reference does; the message has the figures."""


def pipeline(preprocessing: Preprocessing) -> Callable[[bytes], Pixels]:
    """Encoded image -> pixels [H, W, 3] by the service's own decode and preprocess steps."""
    preprocess = Preprocessor(preprocessing)
    return lambda data: preprocess(decode(data, _MAX_PIXELS)[0])


def tolerance_of(logits: Logits) -> float:
    """The fp32 gate's largest absolute error: 1e-4, growing with the logits beyond 10."""
    return 1e-4 * max(1.0, float(np.abs(logits).max()) / 10)


def check_parity(model: Path, pixels: npt.NDArray[np.uint8], reference: Logits) -> Parity:
    """Run a model at several batch sizes and compare every answer with the reference.

    Raises GateError if an error exceeds the tolerance or a top-1 differs (other than a tie within the tolerance).
    """
    engine = OnnxEngine(model, threads=1, providers=["CPUExecutionProvider"])
    gate = Gate(max_abs_error=tolerance_of(reference), top1_agreement=1.0)
    errors, agreements, cosines = [], [], []
    for size in BATCH_SIZES:
        # Whole batches only, wrapping round, so that each size is really run at.
        order = np.arange(-(-len(pixels) // size) * size) % len(pixels)
        logits = np.concatenate([engine.run(pixels[batch]) for batch in order.reshape(-1, size)])
        expected = reference[order]
        errors.append(float(np.abs(logits - expected).max()))
        best = expected.max(axis=1)
        chosen = np.take_along_axis(expected, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
        agreements.append(float((best - chosen <= gate.max_abs_error).mean()))
        cosines.append(float(_cosine(logits, expected).min()))
    parity = Parity(
        reference=f"torch {torch.__version__.partition('+')[0]} float32, explicit normalisation",
        images=len(pixels),
        batch_sizes=list(BATCH_SIZES),
        max_abs_error=max(errors),
        cosine=min(cosines),
        top1_agreement=min(agreements),
        gate=gate,
        passed=max(errors) <= gate.max_abs_error and min(agreements) >= gate.top1_agreement,
    )
    if not parity.passed:
        raise GateError(
            f"parity gate failed: max abs error {parity.max_abs_error:.3g} (gate {gate.max_abs_error:.3g}), "
            f"top-1 agreement {parity.top1_agreement:.2%} (gate {gate.top1_agreement:.0%})"
        )
    return parity


def _cosine(a: Logits, b: Logits) -> npt.NDArray[np.float64]:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    cosine: npt.NDArray[np.float64] = (a64 * b64).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return cosine
