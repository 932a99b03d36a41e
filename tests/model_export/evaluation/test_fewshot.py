import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.__main__ import main
from model_export.checkpoints.checkpoint import Checkpoint, write_checkpoint
from model_export.datasets.digits import PREPROCESSING
from model_export.evaluation.fewshot import choose_shots, linear_probe_accuracy
from model_export.mlp_mixer import MlpMixer
from model_export.variants import config_of
from tests.doubles import level_png


def blobs(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated classes in four dimensions."""
    random = np.random.default_rng(seed)
    centres = np.eye(3, 4) * 10
    truth = np.repeat(np.arange(3), per_class)
    return centres[truth] + random.normal(0, 0.5, (len(truth), 4)), truth


def test_separable_classes_are_told_apart_from_five_shots() -> None:
    features, truth = blobs(50, 0)
    shots = choose_shots(truth, 5, seed=0)
    assert linear_probe_accuracy(features[shots], truth[shots], *blobs(100, 1), l2=1.0) == 1


def test_features_without_information_give_chance() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 5)
    test_truth = np.repeat(np.arange(4), 500)
    accuracy = linear_probe_accuracy(
        random.normal(size=(20, 8)), truth, random.normal(size=(2000, 8)), test_truth, l2=1024
    )
    assert accuracy == pytest.approx(0.25, abs=0.05)


def test_the_closed_form_is_ridge_regression() -> None:
    """The same answers as solving the primal normal equations."""
    random = np.random.default_rng(0)
    x, truth = random.normal(size=(30, 6)), random.integers(0, 3, 30)
    test, test_truth = random.normal(size=(200, 6)), random.integers(0, 3, 200)
    mean, std = x.mean(axis=0), x.std(axis=0)
    a, b = (np.hstack([(z - mean) / (std + 1e-5), np.full((len(z), 1), 100.0)]) for z in (x, test))
    weights = np.linalg.inv(a.T @ a + 3 * np.eye(7)) @ a.T @ (2 * np.eye(3)[truth] - 1)
    expected = ((b @ weights).argmax(axis=1) == test_truth).mean()
    assert linear_probe_accuracy(x, truth, test, test_truth, l2=3) == expected


def test_shots_are_balanced_distinct_and_seeded() -> None:
    truth = np.array([0] * 10 + [1] * 20 + [5] * 7)
    shots = choose_shots(truth, 5, seed=1)
    assert np.bincount(truth[shots]).tolist() == [5, 5, 0, 0, 0, 5]
    assert len(set(shots.tolist())) == 15
    assert np.array_equal(shots, choose_shots(truth, 5, seed=1))
    assert not np.array_equal(shots, choose_shots(truth, 5, seed=2))
    with pytest.raises(ValueError, match="class 5 has 7"):
        choose_shots(truth, 8, seed=0)


def test_even_random_features_of_digits_beat_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untrained = tmp_path / "untrained.safetensors"
    torch.manual_seed(0)
    config = config_of("XS/4", classes=10)
    write_checkpoint(untrained, Checkpoint(config, MlpMixer(config).state_dict(), PREPROCESSING, "mixer"))
    main(["fewshot", str(untrained), "--data", "digits", "--shots", "5", "--seeds", "2"])
    captured = capsys.readouterr()
    *seeds, mean = captured.out.splitlines()
    assert "scikit-learn's digits; 10 classes" in captured.err
    looked_at = [int(total) for total in re.findall(r"(\d+)/\1 ", captured.err)]
    assert 50 <= min(looked_at) <= 100, "of the training images only those that are drawn"
    assert max(looked_at) == 360
    accuracies = [float(line.split(": ")[1]) for line in seeds]
    assert len(accuracies) == 2
    assert mean.startswith(f"5-shot top-1: {np.mean(accuracies):.4f}")
    assert 0.2 < np.mean(accuracies) < 0.95


def test_fewshot_needs_both_parts_and_enough_images(tmp_path: Path, tiny_checkpoint: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(level_png(100))
    with pytest.raises(SystemExit, match="needs a training part and a test"):
        main(["fewshot", str(tiny_checkpoint), "--data", str(tmp_path / "data")])
    shutil.copytree(tmp_path / "data", tmp_path / "both" / "train")
    shutil.copytree(tmp_path / "data", tmp_path / "both" / "val")
    with pytest.raises(SystemExit, match="1 training images, fewer than the 5 shots"):
        main(["fewshot", str(tiny_checkpoint), "--data", str(tmp_path / "both")])
