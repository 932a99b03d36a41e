"""Where features go: a .npy file, written row by row beside the rows that say which image each is of."""

import io
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Self

import numpy as np

from service.arrays import FeatureBatch
from service.offline.classifier import Outcome
from service.offline.output import Output, of_file, open_alone
from service.offline.rows import NotOurs

_FLOAT32 = np.dtype("<f4")
_AT_ONCE = 2**20  # bytes that are looked at


class FeatureFile:
    """float32 [rows, size]: row i is of the image in row i of an `Output`, and NaN where that is an error.

    A row is written before the output's, and counted by the header after it: whoever is killed leaves a file that
    can be loaded, and gone on with.
    """

    def __init__(self, file: FileIO, size: int, rows: int) -> None:
        self._file = file
        self._size = size
        self._rows = rows
        self._start = len(self._header(0))
        self._stride = size * _FLOAT32.itemsize

    @classmethod
    def open(cls, path: str, size: int, output: Output) -> Self:
        """A file that is new, or that has the features of what is in `output`; what is behind them is cut away.

        Raises NotOurs if anything else is in it or another process writes to it, and OSError.
        """
        rows = len(output.answered)
        if not os.path.lexists(path):
            if rows:
                raise _other_rows(0, rows)
            Path(path).touch()
        features = cls(open_alone(path, "r+"), size, rows)
        try:
            features._check(output.answered)
            features._count()  # first: what a full disk leaves is then a part of it, and no zeros
            features._file.truncate(features._end(rows))
        except BaseException:
            features.close()
            raise
        return features

    def write(self, outcome: Outcome) -> None:
        """A row, before the output's."""
        row = np.full(self._size, np.nan) if isinstance(outcome, Exception) else outcome.features
        assert row is not None
        self._write(row.astype(_FLOAT32).tobytes(), self._end(self._rows))

    def commit(self) -> None:
        """The output has the row too."""
        self._rows += 1
        self._count()

    def close(self) -> None:
        """Raises OSError if what was written is not there."""
        self._file.close()

    def _header(self, rows: int) -> bytes:
        """Of the same length for any number: NumPy leaves room for it to grow."""
        header = io.BytesIO()
        told = {"descr": _FLOAT32.str, "fortran_order": False, "shape": (rows, self._size)}
        np.lib.format.write_array_header_1_0(header, told)
        return header.getvalue()

    def _end(self, rows: int) -> int:
        return self._start + rows * self._stride

    def _count(self) -> None:
        self._write(self._header(self._rows), 0)

    def _write(self, data: bytes, at: int) -> None:
        rest = memoryview(data)
        try:
            while rest:  # a full disk takes a part, and then nothing
                written = os.pwrite(self._file.fileno(), rest, at)
                rest, at = rest[written:], at + written
        except OSError as error:
            raise of_file(error, self._file) from None

    def _check(self, answered: bytearray) -> None:
        """Whether what is there is of a run with these rows, each of which has features or not."""
        head = os.pread(self._file.fileno(), self._start, 0)
        if not answered and len(head) < self._start and self._header(0).startswith(head):
            return  # new, or killed before its first row
        counted, rows = self._counted(head), len(answered)
        if counted not in (rows, rows - 1):
            raise _other_rows(counted, rows)
        length = os.fstat(self._file.fileno()).st_size
        if not self._end(rows) <= length <= self._end(rows + 1):
            raise NotOurs(f"is damaged: it has {length} bytes, and {rows} rows take {self._end(rows)}")
        first = 0
        for features in self._read(rows):
            expected = np.frombuffer(answered, np.bool_, len(features), first)
            differ = np.isfinite(features).all(axis=1) != expected
            if differ.any():
                raise NotOurs(f"is of another run: its row {first + int(differ.argmax())} is of another image")
            first += len(features)

    def _counted(self, head: bytes) -> int:
        """The number of rows by its header."""
        header = io.BytesIO(head)
        try:
            version = np.lib.format.read_magic(header)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(header)
        except ValueError:
            raise NotOurs("is no .npy file of mixer-classify's") from None
        if len(shape) != 2 or shape[1] != self._size or dtype != _FLOAT32:
            raise NotOurs(f"has {dtype} {list(shape)}, and not float32 [rows, {self._size}]")
        if version != (1, 0) or is_fortran or head != self._header(shape[0]):
            raise NotOurs("is no .npy file of mixer-classify's")
        return int(shape[0])

    def _read(self, rows: int) -> Iterator[FeatureBatch]:
        each = max(1, _AT_ONCE // self._stride)
        for first in range(0, rows, each):
            number = min(each, rows - first)
            data = os.pread(self._file.fileno(), number * self._stride, self._end(first))
            yield np.frombuffer(data, _FLOAT32).reshape(number, self._size)


def _other_rows(there: int, answers: int) -> NotOurs:
    return NotOurs(f"has {there:,} rows, where the answers to go on from have {answers:,}")
