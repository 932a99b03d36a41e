"""What every kind of labelled images offers, what a layout understood of them, and how both fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from model_export.errors import ExportError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


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
        """What a person finds the image by: its path below the data's folder, or its part and number, "test/12"."""


@dataclass(frozen=True)
class Data:
    """Labelled images as a layout understood them: one division ("all"), or some of train, val and test."""

    layout: str  # in words, for a person to check
    parts: dict[str, Dataset]
    notes: tuple[str, ...] = ()  # what lies there and is not used
    guessed: bool = False  # nothing but its place says which column of a table is the class
    one_each: bool = (
        False  # a folder or a number says the class, which can be no list of several, whatever it is called
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """The same for every part."""
        return next(iter(self.parts.values())).classes

    def __str__(self) -> str:
        """One line: the layout, the classes, the images of every part, and what is not used."""
        names = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        sizes = ", ".join(f"{part} {len(data):,}" for part, data in self.parts.items())
        told = f"{self.layout}; {len(self.classes):,} classes ({names}); images: {sizes}"
        return "; ".join([told, *self.notes])
