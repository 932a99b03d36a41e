"""Names of classes: what people read, and the identifiers, such as WordNet synsets, that data sets go by."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_IMAGENET_1K = Path(__file__).parent / "imagenet_1k.tsv"
_SYNSET = re.compile(r"n\d{8}")
_MOST = 1_000_000  # classes
_RECORD_NAMES = ("name", "label", "class_name", "class", "title")
_RECORD_NUMBERS = ("index", "idx", "id", "class_id", "label_id")
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers writes where nobody named the classes


@dataclass(frozen=True)
class ClassNames:
    """One name a class, in the order of the logits, and where there are such one identifier a class."""

    labels: tuple[str, ...]
    synsets: tuple[str, ...] | None = None

    def of(self, indices: Sequence[int]) -> "ClassNames":
        """The names of these classes alone, in this order."""
        synsets = self.synsets and tuple(self.synsets[index] for index in indices)
        return ClassNames(tuple(self.labels[index] for index in indices), synsets)

    @property
    def identified(self) -> tuple[str, ...]:
        """Each label behind its synset, as in "n01440764 tench"; labels alone where there are none."""
        if not self.synsets:
            return self.labels
        return tuple(f"{synset} {label}" for synset, label in zip(self.synsets, self.labels, strict=True))


@cache
def imagenet_1k() -> ClassNames:
    """The 1000 classes of ImageNet's challenge (ILSVRC 2012) in the order of their synsets, which all models share.

    The names are facts: the first of each synset's words in WordNet 3.0 (wordnet.princeton.edu), as timm lists them in
    imagenet_synsets.txt and imagenet_synset_to_lemma.txt; five that would occur twice are told apart.
    """
    lines = _IMAGENET_1K.read_text(encoding="utf-8").splitlines()
    synsets, labels = zip(*(line.split("\t") for line in lines), strict=True)
    return ClassNames(labels, synsets)


def class_names(names: Any, descriptions: Mapping[Any, Any] | None = None) -> ClassNames | None:
    """What names say in any of the usual forms; None for placeholders that say nothing.

    A list of names or of (synset, name); {index: either of these}, perhaps with gaps; {name: index}; records with a
    name and perhaps a number. A name that is a WordNet synset, or has a description, becomes the identifier. Raises
    ValueError, saying why, for anything else.
    """
    by_index = _by_index(names)
    pairs = [tuple(name) if isinstance(name, list | tuple) else (name, name) for name in by_index]
    if not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
        raise ValueError("its entries are neither names nor pairs of a synset and a name")
    if not pairs or all(_PLACEHOLDER.fullmatch(name) for _, name in pairs):
        return None
    known = dict(zip(imagenet_1k().synsets or (), imagenet_1k().labels, strict=True)) | dict(descriptions or {})
    identifiers = tuple(one_line(identifier) for identifier, _ in pairs)
    labels = tuple(
        one_line(str(known.get(identifier, name)) if identifier == name else name) for identifier, name in pairs
    )
    if empty := [index for index, label in enumerate(labels) if not label]:
        raise ValueError(f"the name of class {empty[0]} is empty")
    return ClassNames(labels, identifiers if identifiers != labels or all(map(_SYNSET.fullmatch, labels)) else None)


def described(names: tuple[str, ...]) -> ClassNames:
    """The same names, and where all are WordNet synsets the words of those that ImageNet-1k has."""
    if not all(map(_SYNSET.fullmatch, names)):
        return ClassNames(names)
    words = dict(zip(imagenet_1k().synsets or (), imagenet_1k().labels, strict=True))
    return ClassNames(tuple(words.get(name, name) for name in names), names)


def one_line(text: str) -> str:
    """Text without line breaks and other control characters, single spaces between its words."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _by_index(names: Any) -> Sequence[Any]:
    if isinstance(names, list | tuple):
        if not names or not all(isinstance(record, Mapping) for record in names):
            return names
        called = [_entry(record, _RECORD_NAMES) for record in names]
        numbers = [_entry(record, _RECORD_NUMBERS) for record in names]
        if None in called:
            raise ValueError(f"a record has none of {', '.join(_RECORD_NAMES)}")
        if not any(type(number) is int for number in numbers):
            return called
        if sorted(map(str, numbers)) != sorted(map(str, range(len(names)))):
            raise ValueError(f"its numbers are not 0 to {len(names) - 1}, each once")
        names = dict(zip(numbers, called, strict=True))
    if not isinstance(names, Mapping):
        raise ValueError(f"a {type(names).__name__} is neither a list nor a mapping")
    if all(type(value) is int for value in names.values()):  # {name: index}
        if sorted(names.values()) != list(range(len(names))):
            raise ValueError(f"its numbers are not 0 to {len(names) - 1}, each once")
        names = {index: name for name, index in names.items()}
    try:
        by_index = {int(index): name for index, name in names.items()}
    except (TypeError, ValueError):
        raise ValueError("its entries are neither {name: index} nor {index: name}") from None
    if len(by_index) < len(names) or min(by_index, default=0) < 0 or max(by_index, default=0) >= _MOST:
        raise ValueError("its numbers are not those of classes, each once")
    return [by_index.get(index, f"class {index}") for index in range(1 + max(by_index, default=-1))]


def _entry(record: Mapping[Any, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if key in record), None)
