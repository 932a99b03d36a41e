"""Rows of the job: what comes in from each kind of source, and what goes out."""

import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from parts import Output, part_name

from service import Classifier
from service.images.formats import SUFFIXES
from service.offline.paths import PathSet
from service.offline.rows import error_fields


class Classify:
    """What an actor of Ray's does: rows with `path` and perhaps `image`, the encoded bytes -> a part of the output."""

    def __init__(self, bundle: str, output: Output, top_k: int, lanes: int, done: PathSet) -> None:
        """Rows whose path is in `done` are left out."""
        self._classifier = Classifier.load(bundle, lanes=lanes, threads=1)
        self._output, self._top_k, self._done = output, top_k, done

    def __call__(self, batch: pa.Table) -> pa.Table:
        """How many rows the part has. A batch that comes again, since a machine was lost, has its part already."""
        rows = [(named(row["path"]), row) for row in batch.to_pylist()]
        rows = [(path, row) for path, row in rows if path not in self._done]
        name = part_name(path for path, _ in rows)
        if rows and not self._output.has(name):
            images = [row["image"] if "image" in row else os.fsdecode(row["path"]) for _, row in rows]
            outcomes = self._classifier.stream(images, self._top_k, features=self._output.features)
            told = [self._row(path, outcome) for (path, _), outcome in zip(rows, outcomes, strict=True)]
            self._output.write(name, pa.Table.from_pylist(told, self._output.schema))
        return pa.table({"rows": [len(rows)]})

    def _row(self, path: str, outcome: Any) -> dict[str, Any]:
        if isinstance(outcome, Exception):
            told = error_fields(outcome)
            return {"path": path, "model": self._output.model, "error": f"{told['code']}: {told['message']}"}
        predictions = [{"index": p.index, "label": p.label, "probability": p.probability} for p in outcome.predictions]
        told = {"path": path, "model": self._output.model, "predictions": predictions or None}
        return told | {"features": outcome.features}  # where the schema has them


def path_table(paths: Iterable[str]) -> pa.Table:
    """Rows of files, with `path` alone: its bytes, which need not be UTF-8."""
    return pa.table({"path": pa.array(map(os.fsencode, paths), pa.binary())})


def named(path: bytes | str) -> str:
    """What a row is called: a path, in which each byte that is not UTF-8 stands as \\xff."""
    return os.fsencode(path).decode(errors="backslashreplace")


def keyed(table: pa.Table, image: str, key: str) -> pa.Table:
    """Rows of a parquet file as `path` and `image`; an image may be a struct with its `bytes`, as the Hub has them.

    Raises ValueError if a key is null, since nothing tells such rows apart.
    """
    images = table[image]
    if pa.types.is_struct(images.type):
        images = pc.struct_field(images, "bytes")
    name, _, field = key.partition(".")
    keys = pc.struct_field(table[name], field) if field else table[name]
    if keys.null_count:
        raise ValueError(f"{keys.null_count} of {len(keys)} rows have no {key}, which is to tell them apart (--key)")
    return pa.table({"path": keys.cast(pa.string(), safe=False).cast(pa.binary()), "image": images.cast(pa.binary())})


def of_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample of a WebDataset as `path` (its key) and `image`, whatever its suffix; None if it has none."""
    images = (value for name, value in sample.items() if f".{name}".lower() in SUFFIXES and isinstance(value, bytes))
    return {"path": sample["__key__"], "image": next(images, None)}
