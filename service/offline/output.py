"""Where rows go: standard output, or a file that may have rows of an earlier run, which then goes on."""

import csv
import fcntl
import os
import stat
from collections.abc import Iterator
from io import BufferedReader, FileIO
from typing import Self

from service.offline.classifier import Outcome
from service.offline.paths import PathSet
from service.offline.rows import NotOurs, Rows

_LONGEST_ROW = 4 * 2**20  # bytes: what is cut away as half a row is not more


class Output:
    """Rows, each written at once and whole: whoever is killed leaves a file that can be gone on with."""

    def __init__(self, file: FileIO, rows: Rows) -> None:
        self._file = file
        self._rows = rows
        self.done = PathSet()  # paths that have a row from before
        self.answered = bytearray()  # of each of those rows: 0 if it has an error, else 1
        self._begun = False

    @classmethod
    def open(cls, path: str, rows: Rows) -> Self:
        """A file, new or of the same form and run; half a row at its end is cut away.

        Raises NotOurs if anything else is in it or another process writes to it, and OSError.
        """
        file = open_alone(path, "a+")
        file.seek(0)
        output = cls(file, rows)
        try:
            reader = BufferedReader(file)
            output._go_on_from(output._end_of_rows(reader))
            reader.detach()  # or it would close the file
        except BaseException:
            file.close()
            raise
        return output

    @property
    def failed(self) -> int:
        """Rows from before with an error."""
        return self.answered.count(0)

    def write(self, path: str, outcome: Outcome) -> None:
        """A row."""
        row = self._rows.row(path, outcome)
        if not self._begun and self._rows.start.endswith("\n"):
            row = self._rows.start + row
        self._begun = True
        rest = memoryview(row.encode("utf-8", "surrogateescape"))  # as file names are
        try:
            while rest:  # a full disk takes a part, and then nothing
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            raise of_file(error, self._file) from None

    def close(self) -> None:
        """Of a file; raises OSError if what was written is not there."""
        self._file.close()

    def _end_of_rows(self, reader: "BufferedReader[FileIO]") -> int:
        """Look at what is there; where the last whole row ends."""
        start = self._rows.start.encode()
        head = reader.read(len(start))
        reader.seek(0)
        if start.startswith(head) and head != start:
            return 0  # empty, or killed before its first row
        lines = _WholeLines(reader)
        end = 0
        try:
            for path, is_ok in self._rows.read(lines):
                self.done.add(path)
                self.answered.append(is_ok)
                end = lines.end
        except csv.Error as error:
            if not lines.exhausted:
                raise NotOurs(f"is damaged: {error}") from None
        if head != start:
            raise NotOurs("is none of mixer-classify's")
        return max(end, len(start) if self._rows.start.endswith("\n") else 0)

    def _go_on_from(self, end: int) -> None:
        half = os.fstat(self._file.fileno()).st_size - end
        if half > _LONGEST_ROW:
            raise NotOurs(f"is damaged after {end} bytes")
        if half:
            self._file.truncate(end)
        self._begun = end > 0


def open_alone(path: str, mode: str) -> FileIO:
    """A regular file that no other run has until it is closed; raises NotOurs and OSError."""
    file = FileIO(path, mode)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotOurs("is not a regular file; - is standard output")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise NotOurs("is being written by another run") from None
    except BaseException:
        file.close()
        raise
    return file


def of_file(error: OSError, file: FileIO) -> OSError:
    """The same error with the name of the file, which one of writing lacks; of standard output that is a number."""
    return OSError(error.errno, error.strerror, file.name)


class _WholeLines:
    """The lines of a file but the last one if it has no end, and where the last one of them ends."""

    def __init__(self, file: "BufferedReader[FileIO]") -> None:
        self._file = file
        self.end = 0
        self.exhausted = False

    def __iter__(self) -> Iterator[str]:
        while (line := self._file.readline(_LONGEST_ROW)).endswith(b"\n"):
            self.end += len(line)
            yield line.decode("utf-8", "surrogateescape")
        self.exhausted = True
