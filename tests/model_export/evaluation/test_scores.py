import math

import numpy as np
import pytest

from model_export.evaluation.scores import (
    confusion_matrix,
    expected_calibration_error,
    per_class_accuracy,
    real_accuracy,
    top_k_accuracy,
)

# Three images of three classes: right, second place, last place.
LOGITS = np.array([[9, 1, 0], [8, 7, 0], [9, 8, 1]], np.float32)
TRUTH = np.array([0, 1, 2])


def test_top_k() -> None:
    assert [top_k_accuracy(LOGITS, TRUTH, k) for k in (1, 2, 3, 5)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_a_tie_goes_to_the_lower_index() -> None:
    assert top_k_accuracy(np.zeros((2, 3), np.float32), np.array([0, 1]), 1) == 0.5


def test_confusion_and_per_class() -> None:
    assert confusion_matrix(LOGITS, TRUTH).tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    accuracy = per_class_accuracy(LOGITS[:2], TRUTH[:2])
    assert accuracy[:2].tolist() == [1, 0]
    assert math.isnan(accuracy[2])


def test_real_labels_allow_several_and_leave_out_none() -> None:
    assert real_accuracy(LOGITS, [[0, 2], [1], []]) == (0.5, 2)
    with pytest.raises(ValueError, match="no image"):
        real_accuracy(LOGITS, [[], [], []])


def test_calibration_error_of_known_cases() -> None:
    sure = np.array([[100, 0]] * 4, np.float32)
    assert expected_calibration_error(sure, np.array([0, 0, 0, 0])) == pytest.approx(0)
    assert expected_calibration_error(sure, np.array([0, 0, 1, 1])) == pytest.approx(0.5)
    even = np.zeros((2, 2), np.float32)
    assert expected_calibration_error(even, np.array([0, 1])) == pytest.approx(0)
    three_quarters = np.array([[math.log(3), 0]] * 2, np.float32)
    assert expected_calibration_error(three_quarters, np.array([0, 0])) == pytest.approx(0.25, abs=1e-6)
