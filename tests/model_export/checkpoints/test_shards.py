import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from tests.model_export import oracle

WEIGHTS = oracle.random_timm_weights()


def write_shards(folder: Path, kind: str = "safetensors") -> Path:
    names = sorted(WEIGHTS)
    stem, suffix = ("model", ".safetensors") if kind == "safetensors" else ("pytorch_model", ".bin")
    places = {}
    for number, part in enumerate((names[:10], names[10:]), 1):
        shard = f"{stem}-{number:05}-of-00002{suffix}"
        places |= dict.fromkeys(part, shard)
        arrays = {name: WEIGHTS[name] for name in part}
        if kind == "safetensors":
            save_file(arrays, folder / shard)
        else:
            torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / shard)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_folder_of_shards_or_its_index(tmp_path: Path, kind: str) -> None:
    index = write_shards(tmp_path, kind)
    for source in (tmp_path, index):
        checkpoint = read_checkpoint(source)
        assert np.array_equal(checkpoint.state["head.weight"], WEIGHTS["head.weight"])
        assert np.array_equal(checkpoint.state["stem.weight"], WEIGHTS["stem.proj.weight"])


def test_the_hash_is_that_of_all_shards(tmp_path: Path) -> None:
    write_shards(tmp_path)
    before = read_checkpoint(tmp_path).source
    shard = tmp_path / "model-00002-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    after = read_checkpoint(tmp_path).source
    assert before is not None
    assert after is not None
    assert before.sha256 != after.sha256


def test_missing_damaged_and_straying_shards(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    told = json.loads(index.read_text())
    for places, cause in (
        ({"head.weight": "../m.safetensors"}, "it names no files beside it"),
        ({"head.weight": "/etc/passwd"}, "it names no files beside it"),
        ({}, "it names no files beside it"),
        (told["weight_map"] | {"more": "model-00001-of-00002.safetensors"}, "lacks more, which"),
        (told["weight_map"] | {"more": "model-00003-of-00003.safetensors"}, "model-00003-of-00003.*: no such file"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(CheckpointError, match=cause):
            read_checkpoint(tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(tmp_path)
