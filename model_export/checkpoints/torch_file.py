"""PyTorch's two containers: a zip archive since 1.6, and before that pickles one after the other."""

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_export.checkpoints.torch_pickle import PickledCodeError, StandIn, Storage, StoredTensor, load

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OF_NETWORKS = {"_modules", "_parameters"}  # attributes that every torch.nn.Module has


class NoMappingError(Exception):
    """A file that holds something else than names and tensors."""


@dataclass(frozen=True)
class TorchFile:
    """What torch.save wrote."""

    tensors: dict[str, Tensor]  # names joined with dots where they lie in containers
    pickled: Mapping[Any, Any]  # everything, objects as stand-ins and tensors as descriptions
    networks: list[str]  # classes of networks that were pickled whole; their weights are not among the tensors


def read_torch(path: Path) -> TorchFile:
    """Raises PickledCodeError where code would have to run; damaged files provoke nearly every other exception."""
    with path.open("rb") as file:
        return _read_zip(path) if file.read(2) == b"PK" else _read_old(path)


def _read_zip(path: Path) -> TorchFile:
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        with archive.open(pickled) as file:
            loaded, _ = load(file)
        return _built(loaded, lambda storage: archive.read(f"{root}data/{storage.key}"))


def _read_old(path: Path) -> TorchFile:
    with path.open("rb") as file:
        if load(file)[0] != _OLD_MAGIC:
            raise ValueError("a plain pickle, not written by torch.save; save the weights with that or as .safetensors")
        load(file)  # the format's version
        load(file)  # the machine's integer sizes
        loaded, storages = load(file)
        keys, _ = load(file)
        data = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            size = count * storages[key].dtype.itemsize
            if not 0 <= size <= path.stat().st_size - file.tell():
                raise ValueError("the file is cut off")
            data[key] = file.read(size)
        return _built(loaded, lambda storage: data[storage.key])


def _built(loaded: Any, read: Callable[[Storage], bytes]) -> TorchFile:
    if isinstance(loaded, StandIn) and loaded.keys() >= _OF_NETWORKS:
        raise PickledCodeError(type(loaded).__name__)
    if not isinstance(loaded, Mapping):
        kind = "Tensor" if isinstance(loaded, StoredTensor) else type(loaded).__name__
        raise NoMappingError(f"holds a {kind}, not a mapping of names to tensors")
    flat: dict[Storage, Tensor] = {}

    def values(storage: Storage) -> Tensor:
        if storage not in flat:
            data = bytearray(read(storage))
            flat[storage] = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
        return flat[storage]

    walk = _Walk()
    tensors = {name: stored.build(values) for name, stored in walk.tensors(loaded)}
    return TorchFile(tensors, loaded, walk.networks)


class _Walk:
    """Through containers in containers, each of them once."""

    def __init__(self) -> None:
        self.networks: list[str] = []
        self._above: list[int] = []
        self._seen: set[int] = set()

    def tensors(self, container: Any, prefix: str = "") -> Iterator[tuple[str, StoredTensor]]:
        if id(container) in self._above:
            raise ValueError("one of its containers contains itself")
        if id(container) in self._seen:
            return
        if isinstance(container, StandIn) and container.keys() >= _OF_NETWORKS:
            self.networks.append(type(container).__name__)
            return
        self._seen.add(id(container))
        self._above.append(id(container))
        for key, value in container.items() if isinstance(container, Mapping) else enumerate(container):
            if isinstance(value, StoredTensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, Mapping | list | tuple):
                yield from self.tensors(value, f"{prefix}{key}.")
        self._above.pop()
