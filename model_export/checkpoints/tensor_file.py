"""Containers: a file's bytes -> named tensors, recognised by content and never by file name, executing nothing."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor

from model_export.checkpoints.foreign_file import LONGEST, foreign_archive, foreign_file
from model_export.checkpoints.torch_file import NoMappingError, read_torch
from model_export.checkpoints.torch_pickle import PickledCodeError
from model_export.errors import ExportError

Tensors = dict[str, Tensor]

# Weights hardly compress. This leaves room for a head of zeros and stops a small file from filling the memory.
_MAX_EXPANSION = 20
_SMALL = 2**30
_LONGEST_SAFETENSORS_HEADER = 100_000_000  # bytes, the format's own limit


class CheckpointError(ExportError):
    """A source that is no usable Mixer checkpoint; the message is one sentence on what is missing or unexpected."""


@dataclass(frozen=True)
class TensorFile:
    """What a file holds: tensors by name, where names inside nested containers are joined with dots."""

    tensors: Tensors
    told: Mapping[Any, Any] = field(default_factory=dict)  # all else: metadata, or what was pickled beside
    networks: tuple[str, ...] = ()  # classes of networks that were pickled whole, and are not read


def read_tensors(path: Path) -> TensorFile:
    """Read an .npz, .safetensors or PyTorch file.

    Raises CheckpointError if the file is missing, damaged, of another kind, needs code to be executed, or would unpack
    to far more than its own size.
    """
    try:
        with path.open("rb") as file:
            head = file.read(LONGEST)
        if _is_safetensors(head):
            return _read_safetensors(path)
        if head[:4] == b"PK\x03\x04":
            return _read_zip(path)
        if foreign := foreign_file(head):
            raise CheckpointError(foreign)
        if head[:1] == b"\x80":
            return _read_torch(path)  # as PyTorch wrote before 1.6
        kind = "unknown kind of file" if head else "empty file"
        raise CheckpointError(f"cannot be read as a checkpoint: {kind}, not .npz, .safetensors or PyTorch's")
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError("no such file") from None
    except (PickledCodeError, NoMappingError) as error:
        raise CheckpointError(str(error)) from None
    except Exception as error:  # damaged and hostile files provoke nearly every class there is
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot be read as a checkpoint: {first_line}") from None


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes with the header's length, then the header, which is JSON: any other first byte may be in there."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_SAFETENSORS_HEADER


def _read_safetensors(path: Path) -> TensorFile:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return TensorFile(tensors, {key: _parsed(text) for key, text in (file.metadata() or {}).items()})


def _parsed(text: str) -> object:
    """Metadata are strings, of which some are JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read_zip(path: Path) -> TensorFile:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > max(_SMALL, _MAX_EXPANSION * size):
        raise CheckpointError(f"would unpack from {size:,} to {unpacked:,} bytes: refused as a zip bomb")
    names = [member.filename for member in members]
    if foreign := foreign_archive(names):
        raise CheckpointError(foreign)
    return _read_npz(path) if any(name.endswith(".npy") for name in names) else _read_torch(path)


def _read_npz(path: Path) -> TensorFile:
    with np.load(path, allow_pickle=False) as arrays:
        loaded = {name: arrays[name] for name in arrays.files}
    text = {name: array.tolist() for name, array in loaded.items() if array.dtype.kind == "U"}
    numbers = {name: _to_tensor(array) for name, array in loaded.items() if array.dtype.kind not in "SU"}
    return TensorFile(numbers, text)


def _to_tensor(array: npt.NDArray[np.generic]) -> Tensor:
    if array.dtype.str.endswith("V2"):  # numpy has no bfloat16: JAX's comes back as two raw bytes
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _read_torch(path: Path) -> TensorFile:
    file = read_torch(path)
    return TensorFile(file.tensors, file.pickled, tuple(file.networks))
