"""Folders as the Hub lays them out, and `hf:` sources from a local cache, with no network."""

import hashlib
import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model_export.__main__ import main
from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from service.bundles.bundle import load_bundle
from tests.model_export import oracle

WEIGHTS = oracle.random_timm_weights()
MIIL = {"interpolation": "bilinear", "crop_pct": 0.8, "mean": [0, 0, 0], "std": [1, 1, 1], "input_size": [3, 224, 224]}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_folder(folder: Path, config: dict[str, object] | None) -> Path:
    folder.mkdir(parents=True)
    save_file(WEIGHTS, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [MIIL, {"architecture": "mixer", "crop_pct": 1, "pretrained_cfg": MIIL}])
def test_config_json_says_how_the_weights_were_evaluated(tmp_path: Path, config: dict[str, object]) -> None:
    spec = read_checkpoint(write_folder(tmp_path / "m", config)).preprocessing
    # floor(16 / 0.8); the weights' own 16 pixels, not the 224 of input_size
    assert (spec.resize_short, spec.crop, spec.interpolation) == (20, 16, "bilinear")
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))


def test_what_config_json_leaves_open_is_timms_default(tmp_path: Path) -> None:
    assert (
        read_checkpoint(write_folder(tmp_path / "a", {"pretrained_cfg": {"crop_pct": None}})).preprocessing
        == read_checkpoint(write_folder(tmp_path / "b", None)).preprocessing
    )


def test_weights_named_without_their_folder_say_that_config_json_is_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {"pretrained_cfg": MIIL})
    assert any(
        "config.json beside it is not read" in note for note in read_checkpoint(folder / "model.safetensors").notes
    )
    assert not any("config.json" in note for note in read_checkpoint(folder).notes)


def test_labels_and_activation(tmp_path: Path) -> None:
    config = {
        "model_args": {"act_layer": "gelu_tanh"},
        "label_names": [f"n{i}" for i in range(7)],
        "label_descriptions": {"n1": "a cat,\na tom"},
    }
    checkpoint = read_checkpoint(write_folder(tmp_path / "m", config))
    assert checkpoint.labels == ("n0", "a cat, a tom", "n2", "n3", "n4", "n5", "n6")
    assert checkpoint.config.gelu == "tanh"


def test_pytorch_bin_where_there_is_no_safetensors(tmp_path: Path) -> None:
    torch.save({name: torch.from_numpy(array) for name, array in WEIGHTS.items()}, tmp_path / "pytorch_model.bin")
    assert np.array_equal(read_checkpoint(tmp_path).state["head.bias"], WEIGHTS["head.bias"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds someone/mixer at its branch main, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--someone--mixer"
    folder = write_folder(repository / "snapshots" / COMMIT, {"pretrained_cfg": MIIL})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    weights = folder / "model.safetensors"
    blob = repository / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    return tmp_path


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_the_cache_serves_without_a_network(cache: Path, revision: str, tmp_path: Path) -> None:
    source = f"hf:someone/mixer{revision}"
    main(["export", source, "--name", "m", "--repository", str(tmp_path / "models")])
    manifest = load_bundle(tmp_path / "models" / "m" / "1").manifest
    (blob,) = (cache / "models--someone--mixer" / "blobs").iterdir()
    assert manifest.source.model_dump() == {"kind": "timm", "reference": source, "sha256": blob.name}
    assert manifest.preprocessing.resize_short == 20


def test_download_prints_the_folder_of_the_commit(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["download", "hf:someone/mixer"])
    assert capsys.readouterr().out == f"{cache / 'models--someone--mixer' / 'snapshots' / COMMIT}\n"
    with pytest.raises(SystemExit, match="mixer-export: hf:someone/other: not in the local cache, and the Hub"):
        main(["download", "hf:someone/other"])


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("hf:someone/other", "not in the local cache, and the Hub cannot be reached"),
        ("hf:someone/mixer@v2", "not in the local cache, and the Hub cannot be reached"),
        ("hf:mixer", "not of the form hf:OWNER/REPO"),
        ("hf:a/b/c", "not of the form hf:OWNER/REPO"),
        ("hf:../../etc", "not of the form hf:OWNER/REPO"),
    ],
)
def test_one_sentence_if_it_cannot_be_had(cache: Path, source: str, cause: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{source}: .*{cause}") as caught:
        read_checkpoint(source)
    assert "\n" not in str(caught.value)


def test_shards_from_the_cache(cache: Path) -> None:
    folder = cache / "models--someone--mixer" / "snapshots" / COMMIT
    (folder / "model.safetensors").unlink()
    names, places = sorted(WEIGHTS), {}
    for shard, part in (("model-1.safetensors", names[:9]), ("model-2.safetensors", names[9:])):
        save_file({name: WEIGHTS[name] for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    checkpoint = read_checkpoint("hf:someone/mixer")
    assert np.array_equal(checkpoint.state["head.weight"], WEIGHTS["head.weight"])
    assert checkpoint.preprocessing.resize_short == 20
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors is not in the repository"):
        read_checkpoint("hf:someone/mixer")


def test_a_damaged_cache_is_noticed(cache: Path) -> None:
    (blob,) = (cache / "models--someone--mixer" / "blobs").iterdir()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x00")
    with pytest.raises(CheckpointError, match=r"hf:someone/mixer: model\.safetensors in the cache is damaged"):
        read_checkpoint("hf:someone/mixer")
