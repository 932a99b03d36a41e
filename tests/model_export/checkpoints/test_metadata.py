"""Names of classes and shapes of images that a file says beside its weights."""

import json
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model_export.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from model_export.checkpoints.class_names import ClassNames, imagenet_1k
from tests.model_export import oracle

WEIGHTS = oracle.random_timm_weights()
STATE = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
SYNSETS = tuple(f"n0000000{i}" for i in range(7))
INDEX = {name: index for index, name in enumerate(NAMES)}


def saved(path: Path, **beside: object) -> Checkpoint:
    torch.save({"model": STATE} | beside, path / "m.pth")
    return read_checkpoint(path / "m.pth")


@pytest.mark.parametrize(
    "beside",
    [
        {"class_to_idx": INDEX},
        {"class_to_idx": dict(reversed(INDEX.items()))},
        {"id2label": dict(enumerate(NAMES))},
        {"id2label": {str(index): name for index, name in enumerate(NAMES)}},
        {"label2id": INDEX},
        {"labels": list(NAMES)},
        {"meta": {"CLASSES": NAMES}},
        {"meta": {"dataset_meta": {"classes": NAMES}}},
        {"args": Namespace(class_to_idx=INDEX)},
        {"hyper_parameters": defaultdict(dict, class_names=list(NAMES), num_classes=7)},
        {"class_to_idx": INDEX, "labels": list(NAMES), "classes": 7},
        {"categories": NAMES},
        {"index_to_name": dict(enumerate(NAMES))},
        {"label_map": INDEX, "label_smoothing": 0.1, "class_weights": [1.0] * 7, "class_counts": INDEX | {"ant": 9}},
    ],
    ids=str,
)
def test_names_of_classes(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert saved(tmp_path, **beside).labels == NAMES


@pytest.mark.parametrize(
    ("beside", "note"),
    [
        ({"class_to_idx": {"cat": 0}}, "class_to_idx is not used: it has 1 labels, the head has 7"),
        ({"class_to_idx": INDEX | {"ant": 6}}, "class_to_idx is not used: its numbers are not 0 to 6"),
        ({"labels": [3, 1, 2]}, "labels is not used"),
        ({"class_names": np.array(NAMES)}, "class_names is not used: a Python object (numpy"),
        ({"labels": list(NAMES), "classes": list(reversed(NAMES))}, "labels and classes name the classes differently"),
    ],
)
def test_names_that_do_not_fit_are_left_out_with_a_note(tmp_path: Path, beside: dict[str, Any], note: str) -> None:
    checkpoint = saved(tmp_path, **beside)
    assert checkpoint.labels is None
    assert any(note in said for said in checkpoint.notes)


def test_placeholders_name_nothing(tmp_path: Path) -> None:
    assert saved(tmp_path, id2label={i: f"LABEL_{i}" for i in range(7)}).labels is None


def test_line_breaks_in_names_become_spaces(tmp_path: Path) -> None:
    assert saved(tmp_path, labels=["an\nt", *NAMES[1:]]).labels == ("an t", *NAMES[1:])


def test_containers_that_share_their_contents_are_looked_at_once(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"classes": NAMES}
    for _ in range(5):
        shared = {str(key): shared for key in range(1000)}
    assert saved(tmp_path, config=shared).labels == NAMES


def test_text_in_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **WEIGHTS, class_names=np.array(NAMES))
    assert read_checkpoint(tmp_path / "m.npz").labels == NAMES


@pytest.mark.parametrize(
    "config",
    [
        {"label_names": list(SYNSETS), "label_descriptions": dict(zip(SYNSETS, NAMES, strict=True))},
        {"labels": list(SYNSETS), "label_descriptions": dict(zip(SYNSETS, NAMES, strict=True))},
        {
            "pretrained_cfg": {"label_names": list(SYNSETS)},
            "label_descriptions": dict(zip(SYNSETS, NAMES, strict=True)),
        },
        {"id2label": {str(i): [s, n] for i, (s, n) in enumerate(zip(SYNSETS, NAMES, strict=True))}},
    ],
)
def test_synsets_and_descriptions_are_both_kept(tmp_path: Path, config: dict[str, Any]) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.labels, checkpoint.synsets) == (NAMES, SYNSETS)
    write_checkpoint(tmp_path / "ours.safetensors", checkpoint)
    again = read_checkpoint(tmp_path / "ours.safetensors")
    assert (again.labels, again.synsets) == (NAMES, SYNSETS)


def test_folders_of_imagenet_are_called_by_their_names(tmp_path: Path) -> None:
    synsets = imagenet_1k().synsets[:7]
    checkpoint = saved(tmp_path, class_to_idx={synset: index for index, synset in enumerate(synsets)})
    assert (checkpoint.labels, checkpoint.synsets) == (imagenet_1k().labels[:7], synsets)


@pytest.mark.parametrize(
    "beside",
    [
        {"args": Namespace(img_size=[8, 32], input_size=None)},
        {"config": {"model": {"image_size": (8, 32)}}},
        {"input_size": [3, 8, 32]},
        {"input_shape": (8, 32, 3)},
        {"config": {"height": 8, "width": 32}},
        {"hparams": Namespace(img_h=8, img_w=32, resolution=None)},
        {"resolution": [8, 32]},
    ],
    ids=str,
)
def test_images_that_are_not_square_are_refused_where_the_file_says_so(tmp_path: Path, beside: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="says 8x32 pixels; only square images are served"):
        saved(tmp_path, **beside)


@pytest.mark.parametrize(
    "beside",
    [
        {"hyper_parameters": {"image_size": (480, 640), "model": {"head": {"in_channels": 768}}}},
        {"args": Namespace(input_size=None, img_size=[], image_size="small")},
    ],
    ids=str,
)
def test_other_sizes_of_other_things_are_no_reason(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert saved(tmp_path, **beside).config.image_size == 16


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ({"model_args": {"img_size": [8, 32]}}, r"config\.json: its img_size says 8x32 pixels"),
        ({"pretrained_cfg": {"input_size": [3, 8, 32]}}, r"config\.json: its input_size says 8x32 pixels"),
        ({"pretrained_cfg": {"input_size": [1, 16, 16]}}, r"config\.json: its input_size says 1 colour channels"),
        ({"model_args": {"in_chans": 4}}, r"config\.json: its in_chans says 4 colour channels"),
    ],
)
def test_config_json_refuses_before_the_weights_are_read(tmp_path: Path, config: dict[str, Any], cause: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not even weights")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=cause):
        read_checkpoint(tmp_path)


def test_a_square_is_assumed_aloud_where_nothing_says_so(tmp_path: Path) -> None:
    assert any("images of 16x16 pixels are assumed" in note for note in saved(tmp_path).notes)
    assert not saved(tmp_path, args=Namespace(img_size=16)).notes
    assert any("16x16" in note for note in saved(tmp_path, args=Namespace(img_size=224)).notes)


def test_imagenets_names_where_nothing_says_what_1000_classes_are(tmp_path: Path) -> None:
    save_file(oracle.random_timm_weights(classes=1000), tmp_path / "m.safetensors")
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.labels is None
    assert checkpoint.named().labels == imagenet_1k().labels
    names = checkpoint.named().names
    assert names is not None
    assert (names.identified[0], names.identified[999]) == ("n01440764 tench", "n15075141 toilet tissue")
    assert checkpoint.named(ClassNames(NAMES)).labels == NAMES
    assert checkpoint.with_names(ClassNames(NAMES)).named().labels == NAMES
