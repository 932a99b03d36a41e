"""The image files in a folder, at any depth: which files count, and what is passed over."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from service.images.formats import SUFFIXES

_FOREIGN = {"__MACOSX", "@eaDir"}  # what archives and file servers leave behind


@dataclass(frozen=True)
class Found:
    """Paths below a folder, with forward slashes, in the order of their names."""

    images: list[str]
    folders: set[str]
    others: Counter[str]  # files that are no images, by suffix

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over, in words."""
        counts = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in self.others.most_common(5))
        return (f"files passed over: {counts}",) if counts else ()


def find_images(folder: Path) -> Found:
    """Images at any depth, by suffix; hidden files and folders are as if they were not there.

    Links to folders are followed, once each.
    """
    found = Found([], set(), Counter())
    visited: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        below = PurePosixPath(Path(root).relative_to(folder).as_posix())
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if _counts(name))
        found.folders.update(str(below / name) for name in folders)
        for name in filter(_counts, files):
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES:
                found.images.append(str(below / name))
            else:
                found.others[suffix] += 1
    found.images.sort()
    return found


def image_files(folder: Path) -> Iterator[Path]:
    """Image files at any depth, in the order of their names."""
    return (folder / path for path in find_images(folder).images)


def accepted() -> str:
    """The suffixes that count, for messages."""
    return ", ".join(sorted(SUFFIXES))


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return Path(name).suffix.lower() in SUFFIXES


def _counts(name: str) -> bool:
    return name[0] != "." and name not in _FOREIGN
