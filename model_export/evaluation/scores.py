"""Scores of a classifier from its logits, float32 [N, classes], and the true classes, int [N]."""

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def top_k_accuracy(logits: Logits, truth: Classes, k: int) -> float:
    """Share of images whose class is among the k highest logits; a tie counts by class index, as in serving."""
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((best == truth[:, None]).any(axis=1).mean())


def per_class_accuracy(logits: Logits, truth: Classes) -> npt.NDArray[np.float64]:
    """Top-1 accuracy over the images of each class, [classes]; NaN for a class without images."""
    matrix = confusion_matrix(logits, truth)
    with np.errstate(invalid="ignore"):
        accuracy: npt.NDArray[np.float64] = matrix.diagonal() / matrix.sum(axis=1)
    return accuracy


def confusion_matrix(logits: Logits, truth: Classes) -> npt.NDArray[np.int64]:
    """[classes, classes]: entry (i, j) counts images of class i that were taken for class j."""
    classes = logits.shape[1]
    counts = np.bincount(truth * classes + logits.argmax(axis=1), minlength=classes * classes)
    return counts.reshape(classes, classes)


def real_accuracy(logits: Logits, labels: list[list[int]]) -> tuple[float, int]:
    """ "ReaL" accuracy (Beyer et al. 2020, "Are we done with ImageNet?"): the top class is one of an image's labels.

    Images without any label are left out; returns the accuracy and how many images counted. Raises ValueError if
    none did.
    """
    right = [int(best) in set(allowed) for best, allowed in zip(logits.argmax(axis=1), labels, strict=True) if allowed]
    if not right:
        raise ValueError("no image has a ReaL label")
    return sum(right) / len(right), len(right)


def expected_calibration_error(logits: Logits, truth: Classes, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence (Guo et al. 2017, section 2)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)  # the softmax of the highest logit
    right = logits.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
        for inside in (bin_of == i for i in range(bins))
        if inside.any()
    ]
    return float(sum(gaps))
