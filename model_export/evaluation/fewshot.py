"""The paper's few-shot accuracy: a linear classifier on frozen features, solved in closed form."""

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]  # [N, C]
Classes = npt.NDArray[np.int64]  # [N]
_BIAS = 100.0


def choose_shots(truth: Classes, shots: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of `shots` images of every class, drawn without replacement.

    Raises ValueError if a class has fewer.
    """
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(truth):
        (members,) = np.nonzero(truth == label)
        if len(members) < shots:
            raise ValueError(f"class {label} has {len(members)} training images, fewer than the {shots} shots")
        chosen.append(random.choice(members, shots, replace=False))
    return np.concatenate(chosen)


def linear_probe_accuracy(
    features: Features, truth: Classes, test_features: Features, test_truth: Classes, l2: float
) -> float:
    """Top-1 accuracy on the test features of L2-regularised least squares fitted to the others.

    Features are standardised, a constant is appended, and the targets are -1 and +1 (section 3 of the Mixer paper,
    after Dosovitskiy et al. 2021, section 4.1). The standardisation, the constant of 100, which all but frees the bias
    of regularisation, and the default `l2` of 2^10 are google-research/big_vision's (evaluators/fewshot_lsr.py).
    """
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-5

    def prepared(x: Features) -> Features:
        return np.hstack([(x - mean) / std, np.full((len(x), 1), _BIAS)])

    x, classes = prepared(features), np.unique(truth)
    targets = np.where(truth[:, None] == classes, 1.0, -1.0)
    # The dual form solves as many equations as there are shots, which are fewer than features as a rule.
    dual = np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), targets)
    scores = prepared(test_features) @ (x.T @ dual)
    return float((classes[scores.argmax(axis=1)] == test_truth).mean())
