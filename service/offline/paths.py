"""The image files that a command line names: files, folders, globs, and lists on standard input."""

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.images.formats import SUFFIXES

STANDARD_INPUT = "-"
_AT_ANY_DEPTH = re.compile(r"(?:^|(?<=/))\*\*(?:/+|$)")
_RECENT = 2**16  # paths, until they are sorted among the others


class ImagePaths:
    """The paths, one at a time and each once, as they were named and below folders in alphabetical order."""

    def __init__(self, named: list[str], listed: Iterable[bytes]) -> None:
        """`listed` are the lines that "-" stands for."""
        self._named = named
        self._listed = listed
        self.passed_over = 0  # files in folders that are no images by their suffix

    def __iter__(self) -> Iterator[str]:
        for name in self._named:
            if name == STANDARD_INPUT:
                lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in self._listed)
                yield from (path for line in lines if line for path in self._below(line))
            else:
                is_pattern = glob.has_magic(name) and not os.path.lexists(name)
                for path in matches(name) if is_pattern else [name]:
                    yield from self._below(path, is_match=is_pattern)

    def _below(self, name: str, is_match: bool = False) -> Iterator[str]:
        path = Path(name)  # of which ./a and a are one
        if os.path.isdir(path):  # noqa: PTH112 - Path's raises for names that are too long, or in a closed folder
            # A link that is named is followed wherever it leads, and one that is only matched if it leads to no circle.
            above = takewhile(lambda folder: folder.name != "..", path.parents) if is_match else ()
            yield from self._in_folder(path, list(map(_identity, above)))
        else:
            yield str(path)

    def _in_folder(self, folder: Path, above: list[tuple[int, int]]) -> Iterator[str]:
        """Links to folders are followed, unless they lead to one that they are in."""
        try:
            if (here := _identity(folder)) in above:
                return
            with os.scandir(folder) as entries:
                names = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith("."))
        except OSError:
            yield str(folder)  # whose error is found where it is read, and is a row like that of any file
            return
        for name, is_folder in names:
            path = folder / name
            if is_folder:
                yield from self._in_folder(path, [*above, here])
            elif path.suffix.lower() in SUFFIXES:
                yield str(path)
            else:
                self.passed_over += 1


def _identity(folder: Path) -> tuple[int, int]:
    """The same by whatever path."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Not what cannot be followed, such as a link to itself: that is one file that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def matches(pattern: str) -> Iterator[str]:
    """What a glob matches, hidden files but where it says so left out; ** is folders at any depth.

    At the end it matches the folder itself where nothing is below that, or it cannot be listed.
    Python's own ** goes round and round where a link leads to a folder that it is in.
    """
    found = _AT_ANY_DEPTH.search(pattern)
    if not found:
        yield from glob.iglob(pattern)  # noqa: PTH207 - whose patterns cannot begin with /
        return
    above, below = pattern[: found.start()], "*" if found[0] == "**" else pattern[found.end() :]
    for top in glob.iglob(above) if above else [""]:  # noqa: PTH207
        is_empty = True
        for folder in _folders(top, []):
            for match in matches(os.path.join(glob.escape(folder), below)):  # noqa: PTH118 - which keeps "" and "./"
                is_empty = False
                yield match
        if is_empty and found[0] == "**":
            yield top or os.curdir


def _folders(folder: str, above: list[tuple[int, int]]) -> Iterator[str]:
    """It and those below it, as `ImagePaths` finds them; "" is the current one."""
    try:
        if (here := _identity(Path(folder))) in above:
            return
        with os.scandir(folder or ".") as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))
    except OSError:
        return
    yield folder
    for name in names:
        yield from _folders(os.path.join(folder, name), [*above, here])  # noqa: PTH118


class PathSet:
    """Paths that were seen, in eight bytes each.

    They are told apart by 64 bits of BLAKE2: of a million paths, two are taken for one in 3 of 10^8 sets.
    """

    def __init__(self) -> None:
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def __contains__(self, path: str) -> bool:
        return self._has(_number(path))

    def add(self, path: str) -> bool:
        """Whether it was not there yet."""
        number = _number(path)
        if self._has(number):
            return False
        self._recent.add(number)
        if len(self._recent) == _RECENT:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._recent, np.uint64))
            self._recent.clear()
        return True

    def _has(self, number: int) -> bool:
        place = np.searchsorted(self._sorted, np.uint64(number))
        return number in self._recent or bool(place < len(self._sorted) and self._sorted[place] == number)


def _number(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest())
