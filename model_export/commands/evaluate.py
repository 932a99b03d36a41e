"""Measure accuracy, calibration and speed of a bundle or a checkpoint on labelled images."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from model_export.checkpoints.labels_file import read_labels
from model_export.commands.notes import tell
from model_export.commands.numbers import positive_int
from model_export.datasets.data import open_data
from model_export.evaluation.class_map import class_indices, read_class_map
from model_export.evaluation.evaluate import Answers, EvaluationError, answer_all
from model_export.evaluation.pictures import draw_confusion
from model_export.evaluation.real_labels import read_real_labels
from model_export.evaluation.scores import (
    Classes,
    confusion_matrix,
    expected_calibration_error,
    per_class_accuracy,
    real_accuracy,
    top_k_accuracy,
)
from model_export.evaluation.squash import Resize
from model_export.evaluation.subject import Subject, open_subject


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="bundle (<repository>/<name>/<version>) or checkpoint")
    parser.add_argument("--data", required=True, help='labelled images in any layout that finetune takes, or "digits"')
    parser.add_argument(
        "--split", choices=["train", "val", "test", "all"], help="default: test, else val, else all there is"
    )
    parser.add_argument("--no-splits", dest="splits", action="store_false", help="a class may be called train or test")
    parser.add_argument("--labels", metavar="NAMES", help="the model's, as export takes them (default: its own)")
    parser.add_argument(
        "--class-map", type=Path, metavar="FILE", help="from the data's class names to the model's labels or indices"
    )
    parser.add_argument(
        "--resize",
        choices=get_args(Resize),
        default="short",
        help="the short side, as it is served, or squash both, as in the paper's table 2; default: %(default)s",
    )
    parser.add_argument("--batch-size", type=positive_int, default=32, help="default: %(default)s")
    parser.add_argument("--per-class", action="store_true", help="print every class's accuracy")
    parser.add_argument("--confusion", type=Path, metavar="PNG", help="draw the confusion matrix")
    parser.add_argument("--real", type=Path, metavar="JSON", help="ReaL multi-label file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def run(options: argparse.Namespace) -> None:
    """Evaluate on the validation part, or on all there is, and print the figures."""
    for path in (options.json, options.confusion):
        if path and not path.parent.is_dir():
            raise EvaluationError(f"{path.parent}: no such folder to write to")
    names = read_labels(options.labels) if options.labels else None
    subject = open_subject(options.source, names)
    if names and len(names.labels) != subject.classes:
        raise EvaluationError(f"{options.labels}: {len(names.labels)} labels for {subject.classes} classes")
    tell(subject.notes)
    data = open_data(options.data, options.splits)
    split = options.split or next(part for part in ("test", "val", "all", "train") if part in data.parts)
    if split not in data.parts:
        raise EvaluationError(f"{options.data}: has no {split} part, only {', '.join(data.parts)}")
    dataset = data.parts[split]
    class_map = read_class_map(options.class_map) if options.class_map else None
    indices, how = class_indices(data.classes, subject.names, subject.classes, class_map)
    print(f"{options.data}: {data}\nevaluated: {split}; {how}", file=sys.stderr)
    truth: Classes = np.array(indices, dtype=np.int64)[np.asarray(dataset.labels)]
    answers = answer_all(dataset, subject.preprocessing, subject.run, options.batch_size, options.resize)
    figures = _figures(subject, answers, truth)
    if options.real:
        files = [dataset.name(i) for i in range(len(dataset))]
        figures["real"], figures["real_images"] = real_accuracy(answers.logits, read_real_labels(options.real, files))
    for name, value in figures.items():
        print(f"{name:28}{value:.4f}" if isinstance(value, float) else f"{name:28}{value}")
    per_class = dict(zip(_class_names(subject), per_class_accuracy(answers.logits, truth).tolist(), strict=True))
    per_class = {name: accuracy for name, accuracy in per_class.items() if not math.isnan(accuracy)}  # no images
    if options.per_class:
        for name, accuracy in per_class.items():
            print(f"  {name:26}{accuracy:.4f}")
    if options.confusion:
        draw_confusion(options.confusion, confusion_matrix(answers.logits, truth), _class_names(subject))
    if options.json:
        options.json.write_text(json.dumps(figures | {"per_class": per_class}, indent=2) + "\n")


def _figures(subject: Subject, answers: Answers, truth: Classes) -> dict[str, object]:
    images = len(truth)
    rate = images / answers.run_seconds
    return {
        "model": subject.name,
        "images": images,
        "top1": top_k_accuracy(answers.logits, truth, 1),
        "top5": top_k_accuracy(answers.logits, truth, 5),
        "calibration_error": expected_calibration_error(answers.logits, truth),
        "threads": subject.threads,
        "img_per_s": round(rate, 1),
        "img_per_s_per_core": round(rate / subject.threads, 1),
        "img_per_s_with_decoding": round(images / answers.seconds, 1),
    }


def _class_names(subject: Subject) -> list[str]:
    return list(subject.names.identified if subject.names else map(str, range(subject.classes)))
