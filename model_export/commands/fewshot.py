"""Measure the paper's few-shot accuracy: least squares on a checkpoint's frozen features."""

import argparse

import numpy as np

from model_export.bundles.reference import torch_runner
from model_export.checkpoints.checkpoint import read_checkpoint
from model_export.commands.numbers import non_negative, positive_int
from model_export.datasets.data import open_data
from model_export.evaluation.evaluate import EvaluationError, answer_all
from model_export.evaluation.fewshot import choose_shots, linear_probe_accuracy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="checkpoint")
    parser.add_argument("--data", required=True, help="folder with train/ and val/, CIFAR archive, or digits")
    parser.add_argument("--shots", type=positive_int, default=5, help="training images a class, default: %(default)s")
    parser.add_argument("--seeds", type=positive_int, default=3, help="draws to average over, default: %(default)s")
    parser.add_argument("--l2", type=non_negative, default=2.0**10, help="regularisation, default: %(default)s")
    parser.add_argument("--batch-size", type=positive_int, default=32, help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Print the accuracy of every seed, their mean and spread."""
    parts = open_data(options.data)
    if not parts.keys() >= {"train", "val"}:
        raise EvaluationError(f"{options.data}: few-shot accuracy needs a train and a val part")
    checkpoint = read_checkpoint(options.source).with_new_head(0)
    extract = torch_runner(checkpoint)
    features, truth = {}, {}
    for part in ("train", "val"):
        answers = answer_all(parts[part], checkpoint.preprocessing, extract, options.batch_size)
        features[part] = answers.logits.astype(np.float64)
        truth[part] = np.asarray(parts[part].labels, dtype=np.int64)
    accuracies = []
    for seed in range(options.seeds):
        try:
            shots = choose_shots(truth["train"], options.shots, seed)
        except ValueError as error:
            raise EvaluationError(f"{options.data}: {error}") from None
        accuracies.append(
            linear_probe_accuracy(
                features["train"][shots], truth["train"][shots], features["val"], truth["val"], options.l2
            )
        )
        print(f"seed {seed}: {accuracies[-1]:.4f}")
    print(f"{options.shots}-shot top-1: {np.mean(accuracies):.4f} +- {np.std(accuracies):.4f}")
