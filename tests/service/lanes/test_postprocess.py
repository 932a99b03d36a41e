import json
from dataclasses import asdict

import numpy as np
import pytest

from service.lanes.postprocess import Predictions, softmax, top_k


def test_softmax_of_equal_logits_is_uniform() -> None:
    assert softmax(np.zeros(4, np.float32)).tolist() == [0.25] * 4


def test_softmax_survives_extreme_logits() -> None:
    assert softmax(np.array([1e4, -1e4, 1e4], np.float32)) == pytest.approx([0.5, 0, 0.5])


def test_top_k_orders_labels_and_breaks_ties_by_index() -> None:
    predictions = top_k(np.array([0, 3, 1, 3], np.float32), ("a", "b", "c", "d"), 3)
    assert [(p.index, p.label) for p in predictions] == [(1, "b"), (3, "d"), (2, "c")]
    assert predictions[0].probability == predictions[1].probability > predictions[2].probability


def test_k_beyond_the_classes_gives_all_of_them_named_by_index() -> None:
    predictions = top_k(np.array([0, 1], np.float32), None, 5)
    assert [p.label for p in predictions] == ["1", "0"]
    assert sum(p.probability for p in predictions) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "labels", [('a "quoted" one', "back\\slash", "é, \u2028 and \n", ""), None], ids=["labels", "none"]
)
@pytest.mark.parametrize(
    "logits",
    [[0, 0, 0, 0], [20, 0, 1, 2], [-50, 3, 90, 3], [1e30, -1e30, 0, 0]],
    ids=["even", "sure", "mixed", "extreme"],
)
def test_the_text_says_what_the_predictions_are(labels: tuple[str, ...] | None, logits: list[float]) -> None:
    row = np.array(logits, np.float32)
    predictions = Predictions(labels, classes=4)
    for k in (1, 3, 4, 9):
        assert json.loads(predictions.json(row, k)) == [asdict(each) for each in top_k(row, labels, k)]
