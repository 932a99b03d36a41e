"""What a file says beside its weights: names of classes, and the shape of the images that it was made for."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from model_export.checkpoints.class_names import ClassNames, class_names
from model_export.checkpoints.tensor_file import CheckpointError
from model_export.checkpoints.torch_pickle import StandIn

# In timm's and transformers' config.json, torchvision's and mmpretrain's checkpoints, and most training scripts.
_NAMES = re.compile(
    r"labels|label_names|class_?names|classes|CLASSES|(idx|id)(_to_|2)(class|label)|(class|label)(_to_|2)(idx|id)"
)
# What other scripts call them: believed where nothing else names the classes, and silently not where it does not fit.
_PERHAPS_NAMES = re.compile(
    r"(?i)(?!label_descriptions).*(class|label|categor|wnid|synset|vocab|names|(idx|id|index)(_to_|2)).*"
)
_SIZE = re.compile(r"(?i)(img|image|input|crop)_?(size|shape|resolution)|resolution")
_HEIGHT = re.compile(r"(?i)((?:img|image|input)_?)?(height|h)")
_CHANNELS = re.compile(r"in_chans|num_channels")
_DEPTH = 8


def told_names(told: Mapping[Any, Any], classes: int) -> tuple[ClassNames | None, list[str]]:
    """The names of the classes, and notes on entries that could not be used.

    Of several entries that fit, all must say the same: else none is taken, as nobody could tell which holds.
    """
    found, notes = _fitting(told, _NAMES, classes)
    if not found:
        found, _ = _fitting(told, _PERHAPS_NAMES, classes)
    if len({names.synsets or names.labels for names in found.values()}) > 1:
        return None, [*notes, f"its {' and '.join(found)} name the classes differently: neither is used"]
    return next(iter(found.values()), None), notes


def _fitting(told: Mapping[Any, Any], keys: re.Pattern[str], classes: int) -> tuple[dict[str, ClassNames], list[str]]:
    """The entries under such keys that name all the classes, and notes on the others."""
    found: dict[str, ClassNames] = {}
    notes = []
    described = next((value for _, value in _entries(told, re.compile("label_descriptions"))), None)
    for key, value in _entries(told, keys):
        if isinstance(value, int | str | None):
            continue  # a number of classes, or a file's name
        if isinstance(value, StandIn) and not value:
            notes.append(f"its {key} is not used: a Python object ({type(value).__name__}), not a list")
            continue
        try:
            names = class_names(value, described)
        except (ValueError, TypeError, AttributeError) as error:
            notes.append(f"its {key} is not used: {error}")
            continue
        if names is None:
            continue
        if len(names.labels) != classes:
            notes.append(f"its {key} is not used: it has {len(names.labels)} labels, the head has {classes} classes")
        else:
            found.setdefault(key, names)
    return found, notes


def check_config(told: Mapping[Any, Any]) -> None:
    """Raises CheckpointError, naming the entry, if config.json says that images are not square or not RGB."""
    for key, (height, width, channels) in _shapes(told):
        if height != width:
            raise CheckpointError(f"its {key} says {height}x{width} pixels; only square images are served")
        if channels not in (None, 3):
            raise CheckpointError(f"its {key} says {channels} colour channels; only RGB is served")
    for key, value in _entries(told, _CHANNELS):
        if type(value) is int and value != 3:
            raise CheckpointError(f"its {key} says {value} colour channels; only RGB is served")


def check_square(told: Mapping[Any, Any], patch: int, tokens: int) -> None:
    """Raises CheckpointError, naming the entry, if one gives an image that is not square and has as many patches.

    Scripts keep other sizes under the same names, such as that of the pictures before they are resized.
    """
    for key, (height, width, _) in _shapes(told):
        if height != width and (height // patch) * (width // patch) == tokens:
            raise CheckpointError(f"its {key} says {height}x{width} pixels; only square images are served")


def says_square(told: Mapping[Any, Any], side: int) -> bool:
    """Whether an entry says that images are side x side."""
    return any(shape[:2] == (side, side) for _, shape in _shapes(told))


def _shapes(told: Mapping[Any, Any]) -> Iterator[tuple[str, tuple[int, int, int | None]]]:
    """Each entry that gives the images' shape: height, width, channels if it says."""
    for key, value in _entries(told, _SIZE):
        numbers = [value] if isinstance(value, int) else value
        if not isinstance(numbers, list | tuple) or not all(type(number) is int for number in numbers):
            continue
        if len(numbers) == 3:
            first, middle, last = numbers
            yield key, (middle, last, first) if first < last else (first, middle, last)
        elif 1 <= len(numbers) <= 2:
            yield key, (numbers[0], numbers[-1], None)
    for mapping in _mappings(told):
        for key, height in mapping.items():
            if isinstance(key, str) and (match := _HEIGHT.fullmatch(key)):
                width = mapping.get((match[1] or "") + {"height": "width", "h": "w"}[match[2].lower()])
                if type(height) is type(width) is int:
                    yield key, (height, width, None)


def _entries(told: Any, keys: re.Pattern[str]) -> Iterator[tuple[str, Any]]:
    """Key and value, wherever such a key stands, the outermost first."""
    for mapping in _mappings(told):
        for key, value in mapping.items():
            if isinstance(key, str) and keys.fullmatch(key):
                yield key, value


def _mappings(told: Any) -> Iterator[Mapping[Any, Any]]:
    """All that is said, and each mapping inside it, once, the outermost first."""
    level, seen = [told], set[int]()
    for _ in range(_DEPTH):
        mappings = {id(each): each for each in level if isinstance(each, Mapping) and id(each) not in seen}
        seen |= mappings.keys()
        yield from mappings.values()
        level = [value for each in mappings.values() for value in each.values()]
