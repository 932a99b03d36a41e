"""A folder a class, alone or below a folder a part (ImageFolder), or with the parts below the classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from model_export.datasets.dataset import PARTS, Data, DataError, Dataset
from model_export.datasets.encoded_images import files_below
from model_export.datasets.image_folder import Found, accepted, find_images
from model_export.datasets.split_names import parts_among, split_of, words_of

_AS_CLASSES = "--no-splits takes them for classes"
_NO_CLASSES = {"images", "image", "imgs", "img", "jpg", "jpeg", "png", "jpegimages", "masks", "labels", "annotations"}
# What the numbered pieces of one large set of images are called, as in images_001 and images_002.
_PIECES = {"part", "fold", "split", "batch", "shard", "chunk", "subset", "set", "data", "folder", "dir"}
_PIECES |= {"images", "image", "imgs", "img", "photos", "pictures", "frames"}


def open_class_folders(folder: Path, splits: bool = True) -> Data:
    """FOLDER/<class>/, FOLDER/<part>/<class>/ or FOLDER/<class>/<part>/, with images at any depth below.

    A part is a folder that is called like one (`split_names`) and holds folders; without `splits` there are none. One
    folder around everything is looked through. Raises DataError, where nothing says the classes, or two readings are
    possible.
    """
    found = find_images(folder)
    if not found.images:
        raise DataError(f"{folder}: holds no images ({accepted()})")
    top = _inside(found.images, "") if splits else ""
    divided = _divided(folder, found, top) if splits else None
    if divided is None:
        parts = {"all": _by_class(found.images, top)}
        layout = f"a folder a class{f', in {top}' if top else ''}"
    else:
        layout, parts = divided
    if splits and (named := {name for classes, _ in parts.values() for name in classes if name.lower() in _NO_CLASSES}):
        raise DataError(
            f"{folder}: {_told(named)} is called like a folder of all images and not like a class, and no table says "
            f"the classes; {_AS_CLASSES}"
        )
    if splits and divided is None:
        _check_levels(folder, *parts["all"])
    return _as_data(folder, found, layout, parts)


# Class name -> its images, as paths below the data's folder; and the prefix that the class folders share.
_Classes = tuple[dict[str, list[str]], str]


def _divided(folder: Path, found: Found, top: str) -> tuple[str, dict[str, _Classes]] | None:
    """The parts, if there are any."""
    by_top = _grouped(found.images, top)
    deep = {
        name
        for name, images in by_top.items()
        if sum("/" in path[len(f"{top}{name}/") :] for path in images) > len(images) / 2
    }
    named = parts_among(by_top)
    parts_of = {name: part for name, part in named.items() if name in deep}
    if parts_of:
        if others := sorted(by_top.keys() - named.keys()):
            raise DataError(
                f"{folder}: {_told(parts_of)} look like parts of the data, {_told(others)} like classes; "
                f"{_AS_CLASSES}, or move the others away"
            )
        return "a folder a part, a folder a class", _unique(folder, by_top, parts_of, top)
    if named and named.keys() == by_top.keys():
        raise DataError(
            f"{folder}: {_told(named)} hold images but no class folders, so nothing says the classes; {_AS_CLASSES}"
        )
    below = {name: frozenset(_grouped(by_top[name], _inside(by_top[name], f"{top}{name}/"))) for name in sorted(deep)}
    if len(by_top) > 1 and deep == by_top.keys() and all(split_of(name) for names in below.values() for name in names):
        return "a folder a class, a folder a part", _class_first(by_top, top)
    alike = Counter(names for names in below.values() if len(names) > 1)
    if twice := [name for name, names in below.items() if alike[names] > 1]:
        raise DataError(
            f"{folder}: {_told(twice)} hold the same folders ({_told(below[twice[0]])}), as parts do and classes do "
            f"not; call them train/ and val/, or give one of them; {_AS_CLASSES}"
        )
    return None


def _check_levels(folder: Path, classes: dict[str, list[str]], top: str) -> None:
    """Raises DataError where folders inside the class folders may be the classes, or these are pieces of one set."""
    inside = {name: _folders_inside(images, f"{top}{name}/") for name, images in classes.items()}
    if repeated := [name for name, inner in inside.items() if (inner - {name}) & classes.keys()]:
        raise DataError(
            f"{folder}: {_told(repeated)} holds folders that are called like those beside it; move it away, or them; "
            f"{_AS_CLASSES}"
        )
    if len(classes) > 1 and all(inside.values()) and any(len(inner) > 1 for inner in inside.values()):
        example = max(inside, key=lambda name: len(inside[name]))
        raise DataError(
            f"{folder}: the folders {_told(classes)} hold folders themselves, {example}/ {_told(inside[example])}, so "
            "that either may be the classes; move the inner ones up, or their images into the outer ones, which "
            "--no-splits takes too, where there are no parts"
        )
    words = {tuple(words_of(name)) for name in classes}
    if len(classes) > 1 and len(words) == 1 and (only := words.pop()) and only[-1] in _PIECES:
        raise DataError(
            f"{folder}: {_told(classes)} are called like pieces of one set of images and not like classes, and no "
            f"table says the classes; {_AS_CLASSES}"
        )


def _folders_inside(images: list[str], top: str) -> set[str]:
    """The folders in the class folder `top`, where most of its images are in them."""
    deep = [path for path in images if "/" in path[len(top) :]]
    return set(_grouped(deep, _inside(deep, top))) if len(deep) > len(images) / 2 else set()


def _unique(folder: Path, by_top: dict[str, list[str]], parts_of: Mapping[str, str], top: str) -> dict[str, _Classes]:
    parts: dict[str, _Classes] = {}
    for name, part in parts_of.items():
        if part in parts:
            raise DataError(
                f"{folder}: {_told(n for n in parts_of if parts_of[n] == part)} both look like the {part} part"
            )
        parts[part] = _by_class(by_top[name], _inside(by_top[name], f"{top}{name}/", part))
        _check_levels(folder, *parts[part])
    return {part: parts[part] for part in PARTS if part in parts}


def _class_first(by_top: dict[str, list[str]], top: str) -> dict[str, _Classes]:
    parts: dict[str, dict[str, list[str]]] = {part: defaultdict(list) for part in PARTS}
    for name, images in by_top.items():
        for path in images:
            part = split_of(path[len(f"{top}{name}/") :].partition("/")[0])
            assert part is not None
            parts[part][name].append(path)
    return {part: (dict(classes), top) for part, classes in parts.items() if classes}


def _by_class(images: list[str], top: str) -> _Classes:
    return _grouped(images, top), top


def _as_data(folder: Path, found: Found, layout: str, parts: dict[str, _Classes]) -> Data:
    everything = parts.get("train") or parts.get("all")
    classes = sorted_names(everything[0] if everything else {name for part, _ in parts.values() for name in part})
    if not classes:
        raise DataError(
            f"{folder}: the images lie in no class folders and no table names them, so nothing says their classes; a "
            "folder a class is needed, named after it, or a table with the columns file and label"
        )
    used, datasets = 0, dict[str, Dataset]()
    for part, (by_class, top) in parts.items():
        if unknown := sorted(by_class.keys() - set(classes)):
            raise DataError(f"{folder}: the {part} part has classes that training has not: {', '.join(unknown[:5])}")
        folders = {path for path in found.folders if path.startswith(top) and "/" not in path[len(top) :]}
        empty = folders - {f"{top}{name}" for name in by_class}
        if empty and part in ("train", "all") and len(classes) > 1:
            raise DataError(f"{folder}: no images in {_told(empty)}")
        labelled = [(path, label) for label, name in enumerate(classes) for path in by_class.get(name, ())]
        used += len(labelled)
        datasets[part] = files_below(folder, classes, [label for _, label in labelled], [path for path, _ in labelled])
    unused = len(found.images) - used
    notes = (f"{unused:,} images outside class folders are not used",) if unused else ()
    return Data(layout, datasets, notes + found.notes, one_each=True)


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in their order: as numbers if all are, else as text."""
    names = set(names)
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names))


def _inside(images: list[str], top: str, part: str | None = None) -> str:
    """`top`, or the only folder below it that holds folders: archives wrap what they hold, a part itself included."""
    while len(by_top := _grouped(images, top)) == 1:
        (name,) = by_top
        inner = f"{top}{name}/"
        if split_of(name) not in (None, part) or len(by_top[name]) < len(images) or not _grouped(images, inner):
            break
        top = inner
    return top


def _grouped(images: list[str], top: str) -> dict[str, list[str]]:
    """The images that lie in a folder below `top`, by that folder's name."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in images:
        name, slash, _ = path[len(top) :].partition("/")
        if slash:
            groups[name].append(path)
    return dict(groups)


def _told(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(f"{name}/" for name in names[:5]) + (", ..." if len(names) > 5 else "")
