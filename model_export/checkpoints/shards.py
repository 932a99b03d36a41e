"""Weights in several files, and the index that says which holds what, as the Hub keeps large models."""

import hashlib
import json
from pathlib import Path
from typing import Any

from model_export.checkpoints.tensor_file import CheckpointError, TensorFile, Tensors, read_tensors
from service.bundles.bundle import sha256_of

INDEX = ".index.json"  # how an index's name ends


def shards(index: Path) -> dict[str, list[str]]:
    """The shards that an index names, and the weights in each; raises CheckpointError if it is damaged."""
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        named: dict[str, list[str]] = {}
        for weight, shard in places.items():
            named.setdefault(shard, []).append(weight)
        if not named or any(Path(shard).name != shard for shard in named):
            raise ValueError("it names no files beside it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index.name} is damaged: {error}") from None
    return named


def read_weights(path: Path) -> tuple[TensorFile, str]:
    """What a file holds, or the shards that an index names; and its sha256, for shards that of the index and theirs.

    Raises CheckpointError.
    """
    if not path.name.endswith(INDEX):
        return read_tensors(path), sha256_of(path)
    tensors: Tensors = {}
    told: dict[Any, Any] = {}
    digest = hashlib.sha256(path.read_bytes())
    for shard, names in shards(path).items():
        try:
            part = read_tensors(path.parent / shard)
        except CheckpointError as error:
            raise CheckpointError(f"{shard}: {error}") from None
        if missing := sorted(set(names) - part.tensors.keys()):
            raise CheckpointError(f"{shard} lacks {missing[0]}, which {path.name} says it holds")
        tensors |= part.tensors
        told |= part.told
        digest.update(sha256_of(path.parent / shard).encode())
    return TensorFile(tensors, told), digest.hexdigest()
