"""Logits -> predictions: softmax and the top k, with labels."""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.arrays import Logits


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of the answer."""

    index: int
    label: str
    probability: float


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Probabilities of one image, [classes]; shifted by the maximum so that no exponential overflows."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum()
    return probabilities


def top_k(logits: Logits, labels: tuple[str, ...] | None, k: int) -> list[Prediction]:
    """The k most probable classes, best first, ties by index; a class without a label is named by its index."""
    probabilities = softmax(logits)
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [Prediction(int(i), labels[i] if labels else str(i), round(float(probabilities[i]), 6)) for i in best]


class Predictions:
    """`top_k` as JSON, with every label encoded once."""

    def __init__(self, labels: tuple[str, ...] | None, classes: int) -> None:
        self._labels = labels
        self._start = [
            f'{{"index":{index},"label":{json.dumps(labels[index] if labels else str(index))},"probability":'
            for index in range(classes)
        ]

    def json(self, logits: Logits, k: int) -> str:
        """The list of the k best as JSON."""
        best = top_k(logits, self._labels, k)
        return f"[{','.join(f'{self._start[each.index]}{each.probability}}}' for each in best)}]"
