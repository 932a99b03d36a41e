"""Pickles of plain containers and uint8 arrays, read without calling anything that the pickle names."""

import io
import pickle  # nosec B403
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def load(data: bytes) -> Any:
    """Containers, numbers, strings (as bytes if Python 2 wrote them) and uint8 arrays.

    Raises pickle.UnpicklingError where the pickle names anything that these do not need; damaged data provokes
    nearly every other exception.
    """
    return _Unpickler(io.BytesIO(data), encoding="bytes").load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside it")


class _UInt8:
    """Stands for numpy.dtype, of which only uint8 is taken; what state it is given does not matter."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        if name not in ("u1", b"u1", "uint8", b"uint8"):
            raise pickle.UnpicklingError(f"it has an array of {name!r}, not of uint8")

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for numpy.ndarray until its bytes arrive; `numpy` is asked only to view them."""

    array: Bytes

    def __setstate__(self, state: tuple[int, tuple[int, ...], _UInt8, bool, bytes]) -> None:
        _, shape, _, fortran, data = state
        self.array = _from_buffer(data, None, shape, "F" if fortran else "C").array


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: bytes, _dtype: object, shape: tuple[int, ...], order: str) -> _Array:
    stand_in = _Array()
    stand_in.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if order == "F" else "C")
    return stand_in


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it encodes to {encoding!r}")
    return text.encode("latin1")


# What pickled arrays name, by protocol and by numpy's age, and nothing more.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _UInt8,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in protocol 2
}


def array_of(value: object) -> Bytes:
    """The array among what `load` gave; raises ValueError if it is none."""
    if not isinstance(value, _Array) or not hasattr(value, "array"):
        raise ValueError("there is no array where one belongs")
    return value.array
