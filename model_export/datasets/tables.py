"""Images whose classes a table says: CSV, TSV, JSON lines, or lists of paths, with a row an image."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from model_export.datasets.class_folders import sorted_names
from model_export.datasets.dataset import PARTS, Data, DataError, Dataset, Part
from model_export.datasets.encoded_images import files_below
from model_export.datasets.image_folder import find_images, is_image
from model_export.datasets.split_names import split_of

SUFFIXES = (".csv", ".tsv", ".jsonl")
# Headers without case and punctuation, the surest first.
_LABELS = "label labels class classname category target labelname classid finelabel labelid categoryid breed species y"
_SPLITS = "split subset set partition part fold"
_SAMPLE = 100  # rows that tell which column names the files
_GIVE = "a table needs a column of file names and a column called label"


@dataclass(frozen=True)
class _Table:
    path: Path
    header: list[str]
    rows: list[list[str]]


def open_table(path: Path) -> Data | None:
    """The table `path`, or the tables in the folder `path` and the folders in it; None where none names its images.

    A column called split, or the tables' or their folders' names (train.csv, test/metadata.csv), divide the images.
    Lists (train.txt) may name images alone, whose folders are the classes. Raises DataError for tables that name images
    and can be read in two ways, or name images that are not there.
    """
    files = [path] if path.is_file() else sorted(filter(_is_table, [*path.glob("*"), *path.glob("*/*")]))
    if not files:
        return None
    folder = path.parent if path.is_file() else path
    images = _Images(folder)
    if path.is_file() and not images.paths:  # beside the folder that the table lies in
        folder, images = folder.parent, _Images(folder.parent)
    understood = {file: rows for file in files if (rows := _labelled(_read(file), images)) is not None}
    if path.is_file() and not understood:
        raise DataError(f"{path}: none of its columns names the images in {folder}; {_GIVE}")
    divided = {file: part for file in understood if (part := _part_of(file))}
    chosen = list(divided) if divided and not path.is_file() else list(understood)
    if not chosen:
        return None
    if len(chosen) > 1 and len({divided.get(file) for file in chosen}) < len(chosen):
        raise DataError(f"{folder}: {', '.join(file.name for file in chosen)} all name images; give one of them")
    parts: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for file in chosen:
        for image, label, split in understood[file]:
            parts[split or divided.get(file) or "all"].append((image, label))
    if "all" in parts and len(parts) > 1:
        raise DataError(f"{folder}: {chosen[0].name} has rows without a split beside rows with one")
    return _as_data(folder, f"table {', '.join(file.relative_to(folder).as_posix() for file in chosen)}", parts, images)


def _is_table(path: Path) -> bool:
    """Lists are many things; only those that are called like a part are read."""
    kind = path.suffix.lower()
    return (
        path.is_file() and path.name[0] != "." and (kind in SUFFIXES or (kind == ".txt" and bool(split_of(path.stem))))
    )


def _part_of(file: Path) -> Part | None:
    return split_of(file.stem) or split_of(file.parent.name)


def _as_data(folder: Path, layout: str, parts: dict[str, list[tuple[str, str]]], images: "_Images") -> Data:
    everything = parts.get("train") or [row for rows in parts.values() for row in rows]
    classes = sorted_names(label for _, label in everything)
    index_of = {name: index for index, name in enumerate(classes)}
    datasets: dict[str, Dataset] = {}
    for part in ("all", *PARTS):
        if part in parts:
            rows = parts[part]
            if unknown := sorted({label for _, label in rows} - set(classes)):
                raise DataError(
                    f"{folder}: the {part} part has classes that training has not: {', '.join(unknown[:5])}"
                )
            labels = [index_of[label] for _, label in rows]
            datasets[part] = files_below(folder, classes, labels, [image for image, _ in rows])
    unused = len(images.paths) - len({image for rows in parts.values() for image, _ in rows})
    return Data(layout, datasets, (f"{unused:,} images without a row are not used",) if unused else ())


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
        if "/" in text and (deeper := [path for path in candidates if _agree(path, text)]):
            candidates = deeper
        if len(candidates) > 1 and part:
            candidates = [path for path in candidates if split_of(path.partition("/")[0]) == part] or candidates
        return candidates


def _agree(path: str, text: str) -> bool:
    """Whether the last folder is the same."""
    return PurePosixPath(path).parent.name == PurePosixPath(text).parent.name


def _labelled(table: _Table, images: _Images) -> list[tuple[str, str, str | None]] | None:
    """(image, class, part) of every row; None if no column names images."""
    columns = range(len(table.header))
    sample = table.rows[:: max(1, len(table.rows) // _SAMPLE)]
    hits = [sum(len(row) > column and bool(images.named(row[column], None)) for row in sample) for column in columns]
    if not hits or max(hits) < max(1, len(sample) / 2):
        return None
    file = hits.index(max(hits))
    split = _column(table, _SPLITS, {file})
    label = _column(table, _LABELS, {file, split})
    if label is None and len(table.header) == 1:
        label = file  # a list of images in class folders
    if label is None:
        others = [c for c in columns if c not in (file, split) and table.header[c] not in ("", "Unnamed: 0", "index")]
        if len(others) != 1:
            named = ", ".join(table.header[c] or "(no name)" for c in others) or "none but the files"
            raise DataError(f"{table.path}: which column is the class? It has {named}; {_GIVE}")
        (label,) = others
    labelled: list[tuple[str, str, str | None]] = []
    missing: list[str] = []
    for number, row in enumerate(table.rows, start=2):
        if len(row) <= max(file, label) or not row[label].strip():
            raise DataError(f"{table.path}: row {number} has no {table.header[label] or 'class'}")
        part = split_of(row[split]) if split is not None and len(row) > split else None
        found = images.named(row[file], part or _part_of(table.path))
        if len(found) > 1:
            raise DataError(f"{table.path}: row {number}, {row[file]}, may be any of {', '.join(found[:3])}")
        if found:
            labelled.append((found[0], row[label].strip() if label != file else _folder_of(found[0]), part))
        else:
            missing.append(row[file])
    if missing:
        raise DataError(f"{table.path}: names {len(missing):,} images that are not there: {', '.join(missing[:3])}")
    counts = len({image for image, _, _ in labelled})
    if counts < len(labelled):
        raise DataError(f"{table.path}: names {len(labelled) - counts:,} images more than once; one class an image")
    if len(labelled) > _SAMPLE and len({label for _, label, _ in labelled}) == len(labelled):
        raise DataError(f"{table.path}: {table.header[label]} differs in every row, so it is no class; {_GIVE}")
    return labelled


def _folder_of(path: str) -> str:
    return PurePosixPath(path).parent.name


def _column(table: _Table, names: str, taken: set[int | None]) -> int | None:
    plain = ["".join(filter(str.isalnum, name.lower())) for name in table.header]
    return next((plain.index(n) for n in names.split() if n in plain and plain.index(n) not in taken), None)


def _read(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
            header = list(dict.fromkeys(key for record in records for key in record))
            return _Table(path, header, [[str(record.get(key, "")) for key in header] for record in records])
        first = text.partition("\n")[0]
        delimiter = max(",;\t| " if path.suffix == ".txt" else ",;\t|", key=first.count)
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(map(str.strip, row))]
    except (UnicodeDecodeError, ValueError, AttributeError, csv.Error) as error:
        raise DataError(f"{path}: is no table: {error}") from None
    if rows and (path.suffix == ".txt" or any(map(is_image, rows[0]))):  # no header
        rows.insert(0, [f"column {number}" for number in range(1, 1 + len(rows[0]))])
    return _Table(path, [name.strip() for name in rows[0]] if rows else [], rows[1:])
