import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model_export.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from model_export.mlp_mixer import MlpMixer
from model_export.parity import reference_logits
from model_export.variants import config_of
from service.manifest import Evaluation, Preprocessing
from tests.model_export import oracle


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), np.uint8)


def test_timm_layout_answers_like_an_independent_mixer(tmp_path: Path, pixels: np.ndarray) -> None:
    weights = oracle.random_timm_weights()
    save_file(weights, tmp_path / "model.safetensors")
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert (checkpoint.layout, checkpoint.config.variant, checkpoint.config.classes) == ("timm", "tiny/4", 7)
    assert (checkpoint.config.gelu, checkpoint.config.layer_norm_eps) == ("erf", 1e-6)
    assert (checkpoint.preprocessing.resize_short, checkpoint.preprocessing.crop) == (18, 16)
    expected = np.stack([oracle.forward(weights, image, mean=0.5, std=0.5) for image in pixels])
    np.testing.assert_allclose(reference_logits(checkpoint, pixels), expected, atol=1e-4)


def test_timm_pth(tmp_path: Path) -> None:
    weights = {name: torch.from_numpy(array) for name, array in oracle.random_timm_weights().items()}
    torch.save(weights, tmp_path / "model.pth")
    checkpoint = read_checkpoint(tmp_path / "model.pth")
    assert torch.equal(checkpoint.state["stem.weight"], weights["stem.proj.weight"])


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
    np.testing.assert_allclose(reference_logits(again, pixels), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param(lambda w: w.pop("stem.proj.weight"), "neither stem.weight nor stem.proj.weight", id="no stem"),
        pytest.param(lambda w: w.pop("head.weight"), "head.weight is missing", id="no head"),
        pytest.param(
            lambda w: w.pop("blocks.1.norm2.bias"), r"missing blocks\.1\.layer_norm_1\.bias", id="one missing"
        ),
        pytest.param(lambda w: w.update(extra=np.zeros(1, np.float32)), "unexpected extra", id="one too many"),
        pytest.param(lambda w: w.update({"norm.bias": np.zeros(3, np.float32)}), r"shape \[3\]", id="wrong shape"),
        pytest.param(
            lambda w: w.update({"blocks.0.mlp_tokens.fc1.weight": np.zeros((8, 15), np.float32)}),
            "square",
            id="15 tokens",
        ),
        pytest.param(lambda w: w.update({"stem.proj.weight": np.zeros(3, np.float32)}), "dimensions", id="flat stem"),
    ],
)
def test_a_file_that_is_no_complete_mixer_gets_one_sentence(tmp_path: Path, change: object, cause: str) -> None:
    weights = oracle.random_timm_weights()
    change(weights)  # type: ignore[operator]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=cause) as caught:
        read_checkpoint(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("data", [b"", b"garbage", b"PK\x03\x04 cut"])
def test_a_damaged_file(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / name)


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.pth"):
        with pytest.raises(CheckpointError, match="no such file"):
            read_checkpoint(tmp_path / name)


class _Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.witness, "executed")


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"stem.proj.weight": _Hostile(witness)}, protocol=2))
    torch.save({"stem.proj.weight": _Hostile(witness)}, tmp_path / "zip.pth")
    for name in ("plain.pth", "zip.pth"):
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / name)
    assert not witness.exists()


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    save_file({n: a.astype(np.float16) for n, a in oracle.random_timm_weights().items()}, tmp_path / "m.safetensors")
    state = read_checkpoint(tmp_path / "m.safetensors").state
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert state.keys() == MlpMixer(config_of("tiny/4", 7)).state_dict().keys()


def test_a_new_head_starts_at_zero_on_the_same_body(tmp_path: Path, pixels: np.ndarray) -> None:
    save_file(oracle.random_timm_weights(), tmp_path / "m.safetensors")
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    renewed = checkpoint.with_new_head(3, labels=("a", "b", "c"))
    assert (renewed.config.classes, renewed.labels) == (3, ("a", "b", "c"))
    assert np.array_equal(reference_logits(renewed, pixels), np.zeros((3, 3)))
    features = reference_logits(checkpoint.with_new_head(0), pixels)
    logits = features @ checkpoint.state["head.weight"].numpy().T + checkpoint.state["head.bias"].numpy()
    np.testing.assert_allclose(logits, reference_logits(checkpoint, pixels), atol=1e-5)
