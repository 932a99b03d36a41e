"""Images whose classes a table says: CSV, TSV, JSON, or lists of paths, with a row an image."""

import csv
import io
import itertools
import json
import os.path
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model_export.datasets.class_folders import sorted_names
from model_export.datasets.dataset import PARTS, Data, DataError, Dataset, Part
from model_export.datasets.encoded_images import files_below
from model_export.datasets.image_folder import find_images, is_image
from model_export.datasets.split_names import split_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
# Headers without case and punctuation, the surest first.
_LABELS = "label labels class classname category target labelname classid finelabel labelid categoryid breed species y"
_SPLITS = "split subset set partition part fold"
_FLAGS: dict[str, tuple[Part, Part]] = {  # columns of true and false: the part of either
    "isvalid": ("val", "train"),
    "isval": ("val", "train"),
    "istest": ("test", "train"),
    "istrain": ("train", "test"),
}
_TRUTHS = {"true": 0, "1": 0, "1.0": 0, "yes": 0, "false": 1, "0": 1, "0.0": 1, "no": 1}
_OTHERS = ("", "unnamed0", "index", "tags", "keywords", "attributes", "caption", "text", "width", "height", "url")
_SAMPLE = 100  # rows that tell which column names the files
_FEW = 0.1  # of the images: a table with fewer rows, without suffixes, counts classes rather than images
_LARGEST_JSON = 50_000_000  # bytes; beyond, in a folder, it is no table but annotations such as COCO's
_SUBMISSION = re.compile(r"(?i)(sample)?[_ -]?submission.*")  # a form to fill in, whose labels are none
_GIVE = "a table needs a column of file names and a column called label"


@dataclass(frozen=True)
class _Table:
    path: Path
    header: list[str]
    rows: list[list[str]]
    first: int = 2  # the number of the first row, for messages


@dataclass(frozen=True)
class _Row:
    image: str
    label: str | None  # None: the image's folder
    part: Part | None


@dataclass(frozen=True)
class _Labelled:
    """A table that names images and their classes."""

    rows: list[_Row]
    column: str  # that says the class
    guessed: bool  # nothing but this column's name could have been one
    notes: tuple[str, ...]


class _NoClassError(DataError):
    """A table that names images, and not their classes."""


def open_table(path: Path) -> Data | None:
    """The table `path`, or the tables in the folder `path` and the folders in it; None where none names its images.

    A column called split, or the tables' or their folders' names (train.csv, test/metadata.csv), divide the images.
    Lists (train.txt) may name images alone, whose folders are the classes. Of numbered divisions (train1.txt,
    test1.txt, train2.txt, ...) the first is taken. Raises DataError for tables that name images and can be read in two
    ways, or name images that are not there.
    """
    files = [path] if path.is_file() else sorted(filter(_is_table, [*path.glob("*"), *path.glob("*/*")]))
    if not files:
        return None
    folder = path.parent if path.is_file() else path
    images = _Images(folder)
    if path.is_dir():  # 1.json beside 1.jpg says something of one image
        files = [file for file in files if file.suffix.lower() != ".json" or not images.named(file.stem, None)]
    if path.is_file() and not images.paths:  # beside the folder that the table lies in
        folder, images = folder.parent, _Images(folder.parent)
    understood: dict[Path, _Labelled] = {}
    without: dict[Path, _NoClassError] = {}
    for file in files:
        try:
            if (table := _labelled(_read(file), images)) is not None:
                understood[file] = table
        except _NoClassError as error:
            without[file] = error
    if not understood and without:
        raise next(iter(without.values()))
    if path.is_file() and not understood:
        raise DataError(f"{path}: none of its columns names the images in {folder}; {_GIVE}")
    chosen, notes = _chosen(folder, understood, whole=path.is_file())
    if not chosen:
        return None
    notes += [f"{file.relative_to(folder).as_posix()} names no classes and is not used" for file in without]
    parts: dict[str, list[_Row]] = defaultdict(list)
    for file in chosen:
        notes += understood[file].notes
        for row in understood[file].rows:
            parts[row.part or _part_of(file) or "all"].append(row)
    if "all" in parts and len(parts) > 1:
        raise DataError(f"{folder}: {chosen[0].name} has rows without a split beside rows with one")
    columns = dict.fromkeys(understood[file].column for file in chosen)
    told = f"table {', '.join(file.relative_to(folder).as_posix() for file in chosen)}, classes by {', '.join(columns)}"
    guessed = any(understood[file].guessed for file in chosen)
    return _as_data(folder, told, parts, images, notes, guessed)


def _chosen(folder: Path, understood: dict[Path, _Labelled], whole: bool) -> tuple[list[Path], list[str]]:
    """The tables to take, and what is not taken; raises DataError if several of them say the same."""
    divided = {file: part for file in understood if (part := _part_of(file))}
    chosen = list(divided) if divided and not whole else list(understood)
    notes = []
    numbers = sorted({number for file in chosen if (number := _division(file)) is not None})
    if len(numbers) > 1 and all(_division(file) is not None for file in chosen):
        chosen = [file for file in chosen if _division(file) == numbers[0]]
        notes = [f"of the {len(numbers)} divisions the first is taken"]
    if len(chosen) > 1 and len({divided.get(file) for file in chosen}) < len(chosen):
        raise DataError(f"{folder}: {', '.join(file.name for file in chosen)} all name images; give one of them")
    return chosen, notes


def _division(file: Path) -> int | None:
    number = re.search(r"(\d+)$", file.stem)
    return int(number[1]) if number else None


def _is_table(path: Path) -> bool:
    """Lists are many things; only those that are called like a part are read."""
    kind = path.suffix.lower()
    return (
        path.is_file()
        and path.name[0] != "."
        and not _SUBMISSION.fullmatch(path.stem)
        and (kind in SUFFIXES or (kind == ".txt" and bool(split_of(path.stem))))
        and not (kind == ".json" and path.stat().st_size > _LARGEST_JSON)
    )


def _part_of(file: Path) -> Part | None:
    return split_of(file.stem) or split_of(file.parent.name)


def _as_data(
    folder: Path, layout: str, parts: dict[str, list[_Row]], images: "_Images", notes: list[str], guessed: bool
) -> Data:
    every = [row for rows in parts.values() for row in rows]
    named = [row.image for row in every]
    if twice := next((image for image, count in Counter(named).items() if count > 1), None):
        raise DataError(f"{folder}: {twice} is in two parts, so that what judges is trained on")
    top = os.path.commonpath([PurePosixPath(row.image).parent for row in every]) if every else ""

    def class_of(row: _Row) -> str:
        return row.label if row.label is not None else PurePosixPath(row.image).parent.relative_to(top).as_posix()

    classes = sorted_names(class_of(row) for row in parts.get("train") or every)
    index_of = {name: index for index, name in enumerate(classes)}
    datasets: dict[str, Dataset] = {}
    for part in ("all", *PARTS):
        if part in parts:
            rows = parts[part]
            if unknown := sorted({class_of(row) for row in rows} - set(classes)):
                raise DataError(
                    f"{folder}: the {part} part has classes that training has not: {', '.join(unknown[:5])}"
                )
            labels = [index_of[class_of(row)] for row in rows]
            datasets[part] = files_below(folder, classes, labels, [row.image for row in rows])
    unused = len(images.paths) - len(set(named))
    notes = [*notes, *([f"{unused:,} images without a row are not used"] if unused else [])]
    return Data(layout, datasets, tuple(notes), guessed)


class _Images:
    """The images below a folder, by whatever tables call them."""

    def __init__(self, folder: Path) -> None:
        self.paths = find_images(folder).images
        self._known = set(self.paths)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self._by_name[PurePosixPath(path).name].append(path)
            self._by_name[PurePosixPath(path).stem].append(path)

    def named(self, text: str, part: str | None) -> list[str]:
        """The images that `text` may mean: a path, a longer path from elsewhere, a name, or a name without suffix."""
        text = text.strip().replace("\\", "/").removeprefix("./")
        if text in self._known:
            return [text]
        candidates = self._by_name.get(text.rpartition("/")[2], [])
        if "/" in text and (most := max((_folders_alike(path, text) for path in candidates), default=0)):
            candidates = [path for path in candidates if _folders_alike(path, text) == most]
        if len(candidates) > 1 and part:
            candidates = [path for path in candidates if split_of(path.partition("/")[0]) == part] or candidates
        return candidates


def _folders_alike(path: str, text: str) -> int:
    """How many folders are the same, from the file upwards."""
    pairs = zip(reversed(path.split("/")[:-1]), reversed(text.split("/")[:-1]), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _labelled(table: _Table, images: _Images) -> _Labelled | None:
    """What the table says; None if no column names images.

    Raises DataError for rows that are wrong, _NoClassError where no column is the class.
    """
    sample = table.rows[:: max(1, len(table.rows) // _SAMPLE)]
    file, hits = _files_column(table, sample, images)
    by_number = not any(is_image(row[file]) for row in sample if len(row) > file)
    if hits < max(1, len(sample) / 2) or (by_number and len(table.rows) < _FEW * len(images.paths)):
        return None
    notes = []
    split = _column(table, _SPLITS.split(), {file})
    flag = _column(table, list(_FLAGS), {file})
    if split is not None and not any(split_of(row[split]) for row in sample if len(row) > split):
        notes = [f"the column {table.header[split]} of {table.path.name} names no parts and is not used"]
    label = _column(table, _LABELS.split(), {file, split})
    guessed = label is None
    listed = label is None and len(table.header) == 1  # images in class folders
    if label is None:
        label = file if listed else _only_other(table, {file, split, flag})
    rows: list[_Row] = []
    missing: list[str] = []
    for number, row in enumerate(table.rows, start=table.first):
        if len(row) <= max(file, label) or not row[label].strip():
            raise DataError(f"{table.path}: row {number} has no single {table.header[label] or 'class'}")
        part = split_of(row[split]) if split is not None and len(row) > split else None
        if part is None and flag is not None and len(row) > flag:
            part = _flagged(table, number, flag, row[flag])
        found = images.named(row[file], part or _part_of(table.path))
        if len(found) > 1:
            raise DataError(f"{table.path}: row {number}, {row[file]}, may be any of {', '.join(found[:3])}")
        if found:
            rows.append(_Row(found[0], None if listed else " ".join(row[label].split()), part))
        else:
            missing.append(row[file])
    if listed and len({PurePosixPath(row.image).parent for row in rows}) < 2:
        raise _NoClassError(f"{table.path}: lists images of one folder and no classes; {_GIVE}")
    if missing:
        raise DataError(f"{table.path}: names {len(missing):,} images that are not there: {', '.join(missing[:3])}")
    if twice := len(rows) - len({row.image for row in rows}):
        raise DataError(f"{table.path}: names {twice:,} images more than once; one class an image")
    column = "the images' folders" if listed else table.header[label] or "its column without a name"
    return _Labelled(rows, column, guessed and not listed, tuple(notes))


def _files_column(table: _Table, sample: list[list[str]], images: _Images) -> tuple[int, int]:
    """The column that names most images, of several the one with the most different names; and how many it names."""
    named = []
    for column in range(len(table.header)):
        texts = [row[column] for row in sample if len(row) > column and images.named(row[column], None)]
        named.append((len(texts), len(set(texts)), -column))
    hits, _, column = max(named, default=(0, 0, 0))
    return -column, hits


def _only_other(table: _Table, taken: set[int | None]) -> int:
    others = [c for c, name in enumerate(table.header) if c not in taken and _plain(name) not in _OTHERS]
    if len(others) != 1:
        named = ", ".join(name or "(no name)" for c, name in enumerate(table.header) if c not in taken)
        named = named or "none but the files"
        raise _NoClassError(f"{table.path}: which column is the class? It has {named}; {_GIVE}")
    return others[0]


def _flagged(table: _Table, number: int, flag: int, text: str) -> Part:
    name = table.header[flag]
    if (truth := _TRUTHS.get(text.strip().lower())) is None:
        raise DataError(f"{table.path}: row {number}, {name} is {text!r}, neither true nor false")
    return _FLAGS[_plain(name)][truth]


def _column(table: _Table, names: list[str], taken: set[int | None]) -> int | None:
    plain = list(map(_plain, table.header))
    return next((plain.index(n) for n in names if n in plain and plain.index(n) not in taken), None)


def _plain(header: str) -> str:
    return "".join(filter(str.isalnum, header.lower()))


def _read(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            return _of_records(path, [json.loads(line) for line in text.splitlines() if line.strip()])
        if path.suffix.lower() == ".json":
            return _of_json(path, json.loads(text))
        first = text.partition("\n")[0]
        delimiter = max(",;\t| " if path.suffix == ".txt" else ",;\t|", key=first.count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(map(str.strip, row))]
    except (UnicodeDecodeError, ValueError, AttributeError, csv.Error, RecursionError) as error:
        raise DataError(f"{path}: is no table: {error}") from None
    if rows and (path.suffix == ".txt" or any(map(is_image, rows[0]))):  # no header
        rows.insert(0, [f"column {number}" for number in range(1, 1 + len(rows[0]))])
    return _Table(path, [name.strip() for name in rows[0]] if rows else [], rows[1:])


def _of_json(path: Path, told: Any) -> _Table:
    """A list of records, {file: record}, or {file: class}; anything else is no table and has no rows."""
    if isinstance(told, dict) and all(isinstance(value, dict) for value in told.values()):
        told = [{"key": name} | record for name, record in told.items()]
    elif isinstance(told, dict) and all(isinstance(value, str | int) for value in told.values()):
        told = [{"key": name, "value": label} for name, label in told.items()]
    if isinstance(told, list) and all(isinstance(record, dict) for record in told):
        return _of_records(path, told)
    return _Table(path, [], [])


def _of_records(path: Path, records: list[dict[str, Any]]) -> _Table:
    """Values that are several, or null, become empty: no cell of a table."""
    header = list(dict.fromkeys(key for record in records for key in record))
    rows = [
        [str(value) if isinstance(value := record.get(key), str | int | float) else "" for key in header]
        for record in records
    ]
    return _Table(path, header, rows, first=1)
