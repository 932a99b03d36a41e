"""What every kind of labelled images offers, and how it fails."""

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from model_export.errors import ExportError


class DataError(ExportError):
    """Data that cannot be used; the message is one sentence with its path."""


class Dataset(Protocol):
    """Images with a class each, in a fixed order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; class i is the i-th."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of every image."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Image.Image:
        """The image, upright RGB; raises DataError with its name if it cannot be read. Safe from any thread."""

    def name(self, index: int) -> str:
        """What a person finds the image by: its file's name, or its part and number, "test/12"."""
