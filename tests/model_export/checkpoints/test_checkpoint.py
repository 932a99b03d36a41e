import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from model_export.bundles.onnx_export import export_onnx
from model_export.bundles.reference import reference_outputs
from model_export.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from model_export.checkpoints.class_names import ClassNames
from model_export.variants import config_of
from service.bundles.manifest import Evaluation, Preprocessing
from tests.model_export import oracle


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), np.uint8)


def test_our_own_layout_round_trips_with_everything_shapes_cannot_tell(tmp_path: Path, pixels: np.ndarray) -> None:
    weights = oracle.random_timm_weights(classes=2)
    save_file(weights, tmp_path / "timm.safetensors")
    read = read_checkpoint(tmp_path / "timm.safetensors")
    config = config_of("tiny/4", classes=2, gelu="tanh", layer_norm_eps=1e-5)
    checkpoint = Checkpoint(
        config,
        read.state,
        Preprocessing(resize_short=16, interpolation="bilinear", crop=16, mean=(0.1, 0.1, 0.1), std=(0.9, 0.9, 0.9)),
        "mixer",
        labels=("cat", "dog"),
        evaluation=Evaluation(dataset="pets", split="test", images=9, top1=0.5),
    )
    for name in ("a.safetensors", "b.safetensors"):
        write_checkpoint(tmp_path / name, checkpoint)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = read_checkpoint(tmp_path / "a.safetensors")
    assert (again.config, again.preprocessing, again.labels, again.evaluation, again.layout) == (
        checkpoint.config,
        checkpoint.preprocessing,
        checkpoint.labels,
        checkpoint.evaluation,
        "mixer",
    )
    expected = np.stack([oracle.forward(weights, image, 0.1, 0.9, "tanh", 1e-5) for image in pixels])
    np.testing.assert_allclose(reference_outputs(again, pixels)["logits"], expected, atol=1e-4)


def test_a_new_head_starts_at_zero_on_the_same_body(tmp_path: Path, pixels: np.ndarray) -> None:
    save_file(oracle.random_timm_weights(), tmp_path / "m.safetensors")
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    renewed = checkpoint.with_new_head(3, ClassNames(("a", "b", "c")))
    assert (renewed.config.classes, renewed.labels) == (3, ("a", "b", "c"))
    assert np.array_equal(reference_outputs(renewed, pixels)["logits"], np.zeros((3, 3)))
    features = reference_outputs(checkpoint.with_new_head(0), pixels)["features"]
    logits = features @ checkpoint.state["head.weight"].numpy().T + checkpoint.state["head.bias"].numpy()
    np.testing.assert_allclose(logits, reference_outputs(checkpoint, pixels)["logits"], atol=1e-5)


def test_a_model_is_the_weights_themselves_and_another_stem_leaves_them_alone(tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    stem = checkpoint.state["stem.weight"].clone()
    model = checkpoint.model()
    assert model.head.weight.data_ptr() == checkpoint.state["head.weight"].data_ptr()
    assert not model.training
    export_onnx(checkpoint)  # folds normalisation into a stem of its own
    assert checkpoint.state["stem.weight"].equal(stem)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"layer_norm_eps": "abc"}, "eps is 'abc'"),
        ({"layer_norm_eps": -1}, "eps is -1"),
        ({"gelu": "relu"}, "gelu is 'relu'"),
        ({"labels": ["only one"]}, "1 labels for 7 classes"),
        ({"preprocessing": {"crop": 8}}, "crop 8 is not the image size 16"),
        ({"preprocessing": {"std": [0, 0, 0]}}, "is not positive"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_our_own_metadata_is_checked(
    tmp_path: Path, tiny_checkpoint: Path, change: dict[str, object], cause: str
) -> None:
    write_checkpoint(tmp_path / "m.safetensors", read_checkpoint(tiny_checkpoint))
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["mixer"])
    preprocessing = metadata["preprocessing"] | change.pop("preprocessing", {})
    state = load_file(tmp_path / "m.safetensors")
    changed = {"mixer": json.dumps(metadata | {"preprocessing": preprocessing} | change)}
    save_file(state, tmp_path / "m.safetensors", changed)
    with pytest.raises(CheckpointError, match=cause):
        read_checkpoint(tmp_path / "m.safetensors")
