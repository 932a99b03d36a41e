"""Tensors as the protocol carries them: images in, logits out, in JSON or as bytes.

Binary elements are row-major and little-endian; one of BYTES is its length in four bytes, then itself
(Triton, docs/protocol/extension_binary_data.md).
"""

import math
import struct
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from service.api.base64_text import decode_base64
from service.api.body import MAX_IMAGES_PER_REQUEST
from service.api.v2.number_list import MisshapenError, NumberList
from service.api.v2.schemas import InputTensor, OutputTensor
from service.arrays import PixelBatch
from service.errors import MalformedRequest

Bytes = bytes | memoryview

_LENGTH = struct.Struct("<I")  # of an element of BYTES
_MISSHAPEN = "has data nested otherwise than its shape"


def read_pixels(tensor: InputTensor, binary: Bytes | None, side: int) -> PixelBatch:
    """UINT8 [N, side, side, 3]; of binary data, a view. Raises MalformedRequest."""
    shape = _checked(tensor, "UINT8", (side, side, 3))
    elements: Bytes
    if binary is None:
        try:
            elements = _small_integers(tensor, shape)
        except MisshapenError:
            raise _malformed(tensor, _MISSHAPEN) from None
        except (TypeError, ValueError, OverflowError):
            raise _malformed(tensor, "has elements that are not integers from 0 to 255") from None
    else:
        elements = binary
    if len(elements) != math.prod(shape):
        unit = "elements" if binary is None else "bytes"
        raise _malformed(tensor, f"has {len(elements)} {unit} where its shape needs {math.prod(shape)}")
    return np.frombuffer(elements, np.uint8).reshape(shape)


def read_encoded(tensor: InputTensor, binary: Bytes | None) -> list[bytes]:
    """BYTES [N] or [N, 1], encoded images; in JSON, which has no bytes, each in base64. Raises MalformedRequest."""
    column = len(tensor.shape) == 2
    shape = _checked(tensor, "BYTES", (1,) if column else ())
    if binary is None:
        return [_from_base64(tensor, number, element) for number, element in enumerate(_flat(tensor, shape))]
    elements: list[bytes] = []
    at = 0
    while at < len(binary) and len(elements) < shape[0]:
        if len(binary) < at + _LENGTH.size:
            raise _malformed(tensor, "ends within the length of an element")
        (length,) = _LENGTH.unpack_from(binary, at)
        at += _LENGTH.size
        if len(binary) < at + length:
            raise _malformed(tensor, "ends within an element")
        elements.append(bytes(binary[at : at + length]))
        at += length
    if at < len(binary) or len(elements) < shape[0]:
        raise _malformed(tensor, f"does not have the {shape[0]} elements of its shape")
    return elements


def write_floats(name: str, values: npt.NDArray[np.float32], binary: bool) -> tuple[OutputTensor, bytes]:
    """An FP32 output, and the bytes that follow the JSON."""
    if not binary:
        return _output(name, "FP32", values.shape, values.ravel().tolist()), b""
    data = values.astype("<f4").tobytes()
    return _output(name, "FP32", values.shape, size=len(data)), data


def write_strings(name: str, rows: list[list[str]], binary: bool) -> tuple[OutputTensor, bytes]:
    """A BYTES output [N, K], and the bytes that follow the JSON."""
    strings, shape = list(chain.from_iterable(rows)), (len(rows), len(rows[0]))
    if not binary:
        return _output(name, "BYTES", shape, strings), b""
    data = joined(string.encode() for string in strings)
    return _output(name, "BYTES", shape, size=len(data)), data


def joined(elements: Iterable[bytes]) -> bytes:
    """Elements of BYTES as binary data."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def _checked(tensor: InputTensor, datatype: str, of_one: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, if datatype and shape are as they should be."""
    if tensor.datatype != datatype:
        raise _malformed(tensor, f"must be of datatype {datatype}")
    images, *rest = tensor.shape or [0]
    if tuple(rest) != of_one or not 1 <= images <= MAX_IMAGES_PER_REQUEST:
        wanted = ", ".join(map(str, ("N", *of_one)))
        raise _malformed(tensor, f"must have shape [{wanted}] with N from 1 to {MAX_IMAGES_PER_REQUEST}")
    return (images, *of_one)


def _flat(tensor: InputTensor, shape: tuple[int, ...]) -> list[Any]:
    """JSON data in row-major order, from a flat list or one nested as the shape says."""
    data = tensor.data
    if isinstance(data, NumberList):
        raise _malformed(tensor, "has numbers where it needs strings of base64")
    if not isinstance(data, list):
        raise _malformed(
            tensor, "has neither data nor binary_data_size" if data is None else "has data that is no list"
        )
    if not any(isinstance(element, list) for element in data[:1]):
        if len(data) != math.prod(shape):
            raise _malformed(tensor, f"has {len(data)} elements where its shape needs {math.prod(shape)}")
        return data
    level: list[Any] = [data]
    for size in shape:
        if not all(isinstance(row, list) and len(row) == size for row in level):
            raise _malformed(tensor, _MISSHAPEN)
        level = list(chain.from_iterable(level))
    return level


def _small_integers(tensor: InputTensor, shape: tuple[int, ...]) -> bytes:
    """Raises as `NumberList.small_integers`."""
    if isinstance(tensor.data, NumberList):
        return tensor.data.small_integers(shape)
    data = _flat(tensor, shape)
    if bool in set(map(type, data)):  # true and false would pass for 1 and 0
        raise TypeError
    return bytes(data)


def _from_base64(tensor: InputTensor, number: int, element: Any) -> bytes:
    if not isinstance(element, str):
        raise _malformed(tensor, f"has an element {number} that is no string of base64")
    try:
        return decode_base64(element)
    except ValueError as error:
        raise _malformed(tensor, f"has an element {number} that is not base64: {error}") from None


def _output(
    name: str, datatype: str, shape: tuple[int, ...], data: list[Any] | None = None, size: int | None = None
) -> OutputTensor:
    """Not validated once more: the data is ours, and can be millions of numbers."""
    return OutputTensor.model_construct(
        name=name,
        shape=list(shape),
        datatype=datatype,
        parameters=None if size is None else {"binary_data_size": size},
        data=data,
    )


def _malformed(tensor: InputTensor, what: str) -> MalformedRequest:
    return MalformedRequest(f"input '{tensor.name}' {what}", reason="tensor")
