import numpy as np
import pytest

from model_export.bundles.agreement import agreement, cosines


def test_a_bias_common_to_all_classes_does_not_flatter() -> None:
    a, b = np.array([[1.0, 0.0, 0.0]], np.float32), np.array([[0.0, 1.0, 0.0]], np.float32)
    assert cosines(a + 100, b + 100) == pytest.approx(cosines(a, b), abs=1e-3)
    assert cosines(a, a + 5) == pytest.approx(1, abs=1e-6)


def test_answers_without_differences_between_classes_agree() -> None:
    flat = np.zeros((1, 3), np.float32)
    assert cosines(flat, flat + 7) == 1
    assert cosines(flat, np.array([[1.0, 0.0, 0.0]], np.float32)) == 0


def test_the_worst_image_counts_and_ties_are_no_misses() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], np.float32)
    logits = np.array([[1.0, 0.0], [0.2, 0.1], [0.4, 0.6]], np.float32)
    found = agreement(logits, reference)
    assert found.top1 == pytest.approx(2 / 3)
    assert found.cosine == pytest.approx(-1)
    assert found.max_abs_error == pytest.approx(0.9)
