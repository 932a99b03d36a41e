"""Labelled image files, wherever their bytes are: the form in which most layouts give what they found."""

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from model_export.datasets.dataset import DataError
from service.errors import ServiceError
from service.images.decode import decode

_MAX_PIXELS = 100_000_000  # an image beyond this is a mistake or a bomb


class EncodedImages:
    """Images that `read` gives the encoded bytes of, by index."""

    def __init__(
        self,
        classes: Sequence[str],
        labels: Sequence[int],
        names: Sequence[str],
        read: Callable[[int], bytes],
        folder: Path | None = None,
    ) -> None:
        """`folder` is what the names are below, for messages."""
        self.classes = tuple(classes)
        self.labels = tuple(labels)
        self.names = tuple(names)
        self._read = read
        self._folder = folder or Path()

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Image.Image:
        """Decoded as the service does: every format that it accepts, EXIF orientation applied."""
        try:
            return decode(self._read(index), _MAX_PIXELS)[0]
        except (ServiceError, OSError) as error:
            raise DataError(f"{self._folder / self.names[index]}: {error}") from None

    def name(self, index: int) -> str:
        """Its path below the data's folder."""
        return self.names[index]


def files_below(folder: Path, classes: Sequence[str], labels: Sequence[int], paths: Sequence[str]) -> EncodedImages:
    """Files by their paths below `folder`, which become their names."""
    return EncodedImages(classes, labels, paths, lambda index: (folder / paths[index]).read_bytes(), folder)


class Slices:
    """Pieces of a file that may be closed and gone by then, read from any thread at once."""

    def __init__(self, file: IO[bytes], slices: Sequence[tuple[int, int]]) -> None:
        file.flush()
        self._descriptor = os.dup(file.fileno())
        self._slices = slices  # offset and length of each
        weakref.finalize(self, os.close, self._descriptor)

    def __call__(self, index: int) -> bytes:
        """The bytes of piece `index`."""
        offset, length = self._slices[index]
        return os.pread(self._descriptor, length, offset)
