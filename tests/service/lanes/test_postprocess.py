import numpy as np
import pytest

from service.lanes.postprocess import softmax, top_k


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
