"""How near answers are to the reference's."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.arrays import LogitBatch

_FLAT = 1e-6  # rounding of equal logits


@dataclass(frozen=True, slots=True)
class Agreement:
    """Logits beside the reference's."""

    max_abs_error: float
    cosine: float  # of the worst image
    top1: float  # share of images, 0..1; choosing a class that the reference ties with its best is no miss


def tolerance_of(reference: LogitBatch) -> float:
    """Float32 rounding in logits: 1e-4, growing with them beyond 10."""
    return 1e-4 * max(1.0, float(np.abs(reference).max()) / 10)


def agreement(logits: LogitBatch, reference: LogitBatch) -> Agreement:
    """Compare float32 [N, classes] with the same of the reference."""
    best = reference.max(axis=1)
    chosen = np.take_along_axis(reference, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Agreement(
        max_abs_error=float(np.abs(logits - reference).max()),
        cosine=float(cosines(logits, reference).min()),
        top1=float((best - chosen <= tolerance_of(reference)).mean()),
    )


def cosines(a: LogitBatch, b: LogitBatch) -> npt.NDArray[np.float64]:
    """Of each row of `a` with that of `b`, [N], each less its own mean: a bias common to all classes tells them apart
    no better and would only flatter. Rows without differences between classes count as 1 if both are.
    """
    a64, b64 = (logits - logits.mean(axis=1, keepdims=True) for logits in (a.astype(np.float64), b.astype(np.float64)))
    norms_a, norms_b = np.linalg.norm(a64, axis=1), np.linalg.norm(b64, axis=1)
    products = np.maximum(norms_a * norms_b, np.finfo(np.float64).tiny)
    flat = np.maximum(norms_a, norms_b) <= _FLAT
    result: npt.NDArray[np.float64] = np.where(flat, 1.0, (a64 * b64).sum(axis=1) / products)
    return result
