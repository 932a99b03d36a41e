"""Measure the paper's few-shot accuracy: least squares on a checkpoint's frozen features."""

import argparse
import sys
from typing import get_args

import numpy as np

from model_export.bundles.reference import torch_runner
from model_export.checkpoints.checkpoint import read_checkpoint
from model_export.commands.notes import tell
from model_export.commands.numbers import non_negative, positive_int
from model_export.datasets.data import Dataset, open_data
from model_export.datasets.split import Subset
from model_export.evaluation.evaluate import EvaluationError, answer_all
from model_export.evaluation.fewshot import Features, choose_shots, linear_probe_accuracy
from model_export.evaluation.squash import Resize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="checkpoint")
    parser.add_argument(
        "--data",
        required=True,
        help="labelled images in any layout that finetune takes, with a training part and another, or digits",
    )
    parser.add_argument("--shots", type=positive_int, default=5, help="training images a class, default: %(default)s")
    parser.add_argument("--seeds", type=positive_int, default=3, help="draws to average over, default: %(default)s")
    parser.add_argument("--l2", type=non_negative, default=2.0**10, help="regularisation, default: %(default)s")
    parser.add_argument(
        "--resize",
        choices=get_args(Resize),
        default="squash",
        help="squash both sides, as the paper does, or only the short one, as it is served; default: %(default)s",
    )
    parser.add_argument("--batch-size", type=positive_int, default=32, help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Print the accuracy of every seed, their mean and spread."""
    data = open_data(options.data)
    test = data.parts.get("test") or data.parts.get("val")
    if "train" not in data.parts or test is None:
        raise EvaluationError(f"{options.data}: few-shot accuracy needs a training part and a test or validation part")
    train = data.parts["train"]
    print(f"{options.data}: {data}", file=sys.stderr)
    truth = np.asarray(train.labels, dtype=np.int64)
    try:
        draws = [choose_shots(truth, options.shots, seed) for seed in range(options.seeds)]
    except ValueError as error:
        raise EvaluationError(f"{options.data}: {error}") from None
    checkpoint = read_checkpoint(options.source).with_new_head(0)
    tell(checkpoint.notes)
    extract = torch_runner(checkpoint)

    def features(part: Dataset) -> Features:
        answers = answer_all(part, checkpoint.preprocessing, extract, options.batch_size, options.resize)
        return answers.logits.astype(np.float64)

    drawn = np.unique(np.concatenate(draws))  # the other training images are not looked at
    train_features = features(Subset(train, tuple(drawn.tolist())))
    test_features, test_truth = features(test), np.asarray(test.labels, dtype=np.int64)
    accuracies = []
    for seed, draw in enumerate(draws):
        shots = train_features[np.searchsorted(drawn, draw)]
        accuracies.append(linear_probe_accuracy(shots, truth[draw], test_features, test_truth, options.l2))
        print(f"seed {seed}: {accuracies[-1]:.4f}")
    print(f"{options.shots}-shot top-1: {np.mean(accuracies):.4f} +- {np.std(accuracies):.4f}")
