"""Containers: a file's bytes -> named tensors, recognised by content and never by file name, executing nothing."""

import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor

from model_export.errors import ExportError

Tensors = dict[str, Tensor]

# Weights hardly compress. This leaves room for a head of zeros and stops a small file from filling the memory.
_MAX_EXPANSION = 20
_SMALL = 2**30
# What timm's training script saves beside the weights: plain data, built without running code of the file's choosing.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [Namespace]


class CheckpointError(ExportError):
    """A source that is no usable Mixer checkpoint; the message is one sentence on what is missing or unexpected."""


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors of an .npz, .safetensors or PyTorch file by name, and a safetensors file's metadata.

    Names inside nested dictionaries are joined with dots. Raises CheckpointError if the file is missing, damaged,
    of another kind, needs code to be executed, or would unpack to far more than its own size.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if head[:4] == b"PK\x03\x04":
            tensors = _read_zip(path)
        elif head[:1] == b"\x80":
            tensors = _read_torch(path)  # as PyTorch wrote before 1.6
        elif head[8:9] == b"{":
            return _read_safetensors(path)
        elif head.startswith(b"version https://git-lfs"):
            raise CheckpointError("is a Git LFS pointer, the weights themselves were not fetched")
        else:
            kind = "unknown kind of file" if head else "empty file"
            raise CheckpointError(f"cannot be read as a checkpoint: {kind}, not .npz, .safetensors or PyTorch's")
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError("no such file") from None
    except Exception as error:  # damaged and hostile files provoke nearly every class there is
        if foreign := re.search(r"(?i)unsupported (?:global: )?(?:global|class) ([\w.]+)", str(error)):
            raise CheckpointError(
                f"needs the Python object {foreign[1]}, and pickled code is never run; save only the state_dict"
            ) from None
        if "Weights only load failed" in str(error):  # torch goes on to advise loading it all the same
            raise CheckpointError("cannot be read as a checkpoint: its pickle holds more than tensors") from None
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot be read as a checkpoint: {first_line}") from None
    return tensors, {}


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_zip(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > max(_SMALL, _MAX_EXPANSION * size):
        raise CheckpointError(f"would unpack from {size:,} to {unpacked:,} bytes: refused as a zip bomb")
    if any(member.filename.endswith(".npy") for member in members):
        return _read_npz(path)
    return _read_torch(path)


def _read_npz(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as arrays:
        loaded = {name: arrays[name] for name in arrays.files}
    return {name: _to_tensor(array) for name, array in loaded.items() if array.dtype.kind not in "SU"}


def _to_tensor(array: npt.NDArray[np.generic]) -> Tensor:
    if array.dtype.str.endswith("V2"):  # numpy has no bfloat16: JAX's comes back as two raw bytes
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _read_torch(path: Path) -> Tensors:
    with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old protocols and containers; what matters is said below
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"holds a {type(loaded).__name__}, not a mapping of names to tensors")
    return dict(_flat(loaded, ""))


def _flat(mapping: Mapping[object, object], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in mapping.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value.detach()
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
