"""PyTorch's pickles, read as data: nothing that a pickle names is imported or called.

Every object becomes a stand-in, which keeps its items and attributes and does nothing. A tensor becomes a description
of where its values lie.
"""

# The unpickler below finds no class but its own.
import pickle  # nosec B403
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

# What no file of weights has a use for: a pickle that names one of these means to run code. Old protocols call
# subprocess "commands".
_SYSTEM = re.compile(
    r"(?:os|posix|nt|sys|subprocess|shutil|socket|importlib|imp|runpy|pty|ctypes|webbrowser|popen2)\.|_?io\.open"
    r"|code\.interact|code\.Interactive|commands\.(?:get|Popen|call|check|run)|pip\.main|timeit\.|pydoc\.|_?pickle\.loads?$|marshal\."
)
_DATA_BUILTINS = re.compile(
    r"getattr|set|frozenset|slice|x?range|unicode|long|complex|bytearray|bytes|object|int|float|str|bool|list|dict|tuple|type"
)
_BUILTINS = ("builtins", "__builtin__")
_RECONSTRUCTOR = "_unpickle"  # a class method that only makes its object (zoneinfo, pandas)
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}


class PickledCodeError(Exception):
    """A pickle that means to run code; the message names it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"needs the Python object {name}, and pickled code is never run; save only the state_dict")


class StandIn(dict[object, object]):
    """What is left of a pickled object: its items and its attributes. `cls.__name__` is the object's class in full."""

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        parts = state if isinstance(state, tuple) else (state,)  # attributes, or (attributes, slots)
        for part in parts:
            if isinstance(part, dict):
                self.update(part)

    def append(self, *_items: object) -> None:
        """Nothing."""

    extend = add = append  # as lists and sets are filled

    __hash__ = object.__hash__  # type: ignore[assignment]  # it may be a key

    def __call__(self, *_arguments: object) -> "StandIn":
        """An object that a pickle calls is a method, unless it is a class."""
        raise PickledCodeError(type(self).__name__)


@dataclass(frozen=True, slots=True)
class Storage:
    """Values of one type that lie somewhere in the file."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage, in torch's terms; without one, a tensor that is not plain and dense."""

    storage: Storage | None = None
    offset: int = 0
    shape: tuple[int, ...] = (0,)
    stride: tuple[int, ...] = (1,)

    def build(self, values: Callable[[Storage], Tensor]) -> Tensor:
        """The tensor; `values` gives a storage's, flat."""
        if self.storage is None:
            return torch.empty(self.shape, device="meta")
        return values(self.storage).as_strided(self.shape, self.stride, self.offset)


def load(file: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """The next pickle's containers, numbers, strings, stand-ins and described tensors; and the storages by key.

    Raises PickledCodeError; damaged data provokes nearly every other exception.
    """
    unpickler = _Unpickler(file, encoding="utf-8", errors="replace")
    loaded = unpickler.load()
    return loaded, unpickler.storages


class _Unpickler(pickle._Unpickler):  # in Python: the C one allocates what a hostile memo index asks for
    def __init__(self, file: IO[bytes], *, encoding: str, errors: str) -> None:
        super().__init__(file, encoding=encoding, errors=errors)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if _SYSTEM.match(f"{module}.{name}") or (module in _BUILTINS and not _DATA_BUILTINS.fullmatch(name)):
            raise PickledCodeError(f"{module}.{name}")
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch._utils", "torch._tensor") and name.startswith("_rebuild"):
            return _rebuilding(name)
        if module in ("torch", "torch.storage"):
            known: Any = _STORAGES.get(name) or (_DTYPES.get(name) if module == "torch" else None)
            if known:
                return known
        if module in _BUILTINS and name == "getattr":
            return lambda owner, attribute: _attribute(getattr(owner, "__name__", "an object"), attribute)
        owner, _, attribute = name.rpartition(".")
        return _attribute(f"{module}.{owner}", attribute) if owner else _stand_in_class(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A tensor's storage: ("storage", type, key, device, size), in old files with what it is a view of.

        Old files also wrap the classes of networks: ("module", class, file, source).
        """
        if pid[0] == "module":
            return pid[1]
        _, dtype, key, _, _, *view = pid
        if not isinstance(dtype, torch.dtype) or any(view):
            return None
        return self.storages.setdefault(key, Storage(key, dtype))


def _stand_in_class(name: str) -> type[StandIn]:
    return type(name, (StandIn,), {})


def _attribute(owner: str, name: object) -> object:
    """A class's attribute: a class inside it, a member of an enumeration, or a method, which is not to be called."""
    stand_in = _stand_in_class(f"{owner}.{name}")
    return stand_in if str(name)[:1].isupper() or name == _RECONSTRUCTOR else stand_in()


def _rebuilding(name: str) -> Callable[..., object]:
    """What stands for a function of torch that makes a tensor; a new one each time, as pickles may write to it."""

    def plain(storage: Storage | None, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Any:
        return StoredTensor(storage, offset, tuple(shape), tuple(stride))

    def typed(
        storage: Storage, offset: int, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
    ) -> Any:
        return StoredTensor(Storage(storage.key, dtype), offset, tuple(shape), tuple(stride))

    def subclass(function: Any, _type: object, arguments: Any, *_: object) -> Any:
        return function(*arguments)

    known: dict[str, Callable[..., object]] = {
        "_rebuild_tensor": plain,
        "_rebuild_tensor_v2": plain,
        "_rebuild_tensor_v3": typed,
        "_rebuild_parameter": lambda data, *_: data,
        "_rebuild_parameter_with_state": lambda data, *_: data,
        "_rebuild_from_type_v2": subclass,
    }
    return known.get(name, lambda *_: StoredTensor())
