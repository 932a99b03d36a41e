"""What a file says beside its weights: names of classes, and the shape of the images that it was made for."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from model_export.checkpoints.class_names import ClassNames, class_names
from model_export.checkpoints.tensor_file import CheckpointError

# In timm's and transformers' config.json, torchvision's and mmpretrain's checkpoints, and training scripts.
_NAMES = (
    *("label_names", "labels", "class_names", "classnames", "classes", "CLASSES"),  # in the order of the logits
    *("idx_to_class", "idx2label", "id2label", "class_to_idx", "label_to_idx", "label2id"),
)
_SHAPES = ("img_size", "image_size", "input_size", "input_shape")
_CHANNELS = ("in_chans", "num_channels")
_DEPTH = 8


def told_names(told: Mapping[Any, Any], classes: int) -> tuple[ClassNames | None, list[str]]:
    """The names of the classes, and notes on entries that could not be used.

    Of several entries that fit, all must say the same: else none is taken, as nobody could tell which holds.
    """
    found: dict[str, ClassNames] = {}
    notes = []
    described = next((value for _, value in _entries(told, ["label_descriptions"])), None)
    for key, value in _entries(told, _NAMES):
        if isinstance(value, int | str | None):
            continue  # a number of classes, or a file's name
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
    if len({names.synsets or names.labels for names in found.values()}) > 1:
        return None, [*notes, f"its {' and '.join(found)} name the classes differently: neither is used"]
    return next(iter(found.values()), None), notes


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
    for key, value in _entries(told, _SHAPES):
        numbers = [value] if isinstance(value, int) else value
        if not isinstance(numbers, list | tuple) or not all(type(number) is int for number in numbers):
            continue
        if len(numbers) == 3:
            first, middle, last = numbers
            yield key, (middle, last, first) if first < last else (first, middle, last)
        elif 1 <= len(numbers) <= 2:
            yield key, (numbers[0], numbers[-1], None)


def _entries(told: Any, keys: Iterable[str], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Key and value, wherever one of these keys stands, the outermost first."""
    if not isinstance(told, Mapping) or depth == _DEPTH:
        return
    for key in keys:
        if key in told:
            yield key, told[key]
    for value in told.values():
        yield from _entries(value, keys, depth + 1)
