"""Whether targets that are compared do the same work: the classes that they see in the same images."""

import json
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.load.result import Answers

Classes = dict[int, float]  # probability by index, of the classes that an answer names


def check_answers(said: Mapping[str, Sequence[bytes]]) -> dict[str, Answers]:
    """How each target's answers about the same images agree with the first's. Who does not gets a warning."""
    (reference, expected), *others = said.items()
    found = {name: compare_answers(expected, answers) for name, answers in others}
    for name, it in found.items():
        if it.same_top1 is None:
            print(f"WARNING: {reference} or {name} answers in an unknown form", file=sys.stderr)
        elif it.same_top1 < it.images:
            same = f"{it.same_top1} of {it.images} images"
            print(f"WARNING: {reference} and {name} see the same in {same} only", file=sys.stderr)
    return found


def read_classes(answer: bytes) -> Classes:
    """What an answer about one image says of it.

    It may be `/v1/classify`'s `predictions` or the Open Inference Protocol's `outputs`: `probabilities` of all classes,
    or `index` and `probability` of the best. Raises ValueError if it is neither.
    """
    try:
        content = json.loads(answer)
        if isinstance(content, list):
            (content,) = content
        if "outputs" not in content:
            return {int(it["index"]): float(it["probability"]) for it in content["predictions"]}
        tensors = {tensor["name"]: np.ravel(tensor["data"]).tolist() for tensor in content["outputs"]}
        if "probabilities" in tensors:
            return dict(enumerate(tensors["probabilities"]))
        return dict(zip(map(int, tensors["index"]), tensors["probability"], strict=True))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"an answer of an unknown form ({error!r})") from None


def compare_answers(first: Sequence[bytes], other: Sequence[bytes]) -> Answers:
    """Two targets' answers about the same images."""
    try:
        pairs = [(read_classes(a), read_classes(b)) for a, b in zip(first, other, strict=True)]
        best = [(max(a, key=a.__getitem__), max(b, key=b.__getitem__)) for a, b in pairs]
    except ValueError:
        return Answers(images=len(first))
    differences = [abs(a[top] - b.get(top, 0.0)) for (a, b), (top, _) in zip(pairs, best, strict=True)]
    return Answers(
        images=len(first), same_top1=sum(a == b for a, b in best), largest_difference=max(differences, default=None)
    )
