"""Rows of the job: what comes in from each kind of source, and what goes out."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from service import Classifier
from service.images.formats import SUFFIXES
from service.offline.paths import PathSet
from service.offline.rows import error_fields

# `features` has its place here once a bundle gives them: a nullable list of floats, filled in `Classify`.
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field(
            "predictions",
            pa.list_(pa.struct([("index", pa.int32()), ("label", pa.string()), ("probability", pa.float64())])),
        ),
        pa.field("error", pa.string()),  # code: message, where there are no predictions
    ]
)


class Classify:
    """What each of Ray's actors does: rows with `path` and perhaps `image`, the encoded bytes -> rows of the output."""

    def __init__(self, bundle: str, model: str, top_k: int, lanes: int, done: PathSet) -> None:
        """Rows whose path is in `done` are left out."""
        self._classifier = Classifier.load(bundle, lanes=lanes, threads=1)
        self._model, self._top_k, self._done = model, top_k, done

    def __call__(self, batch: pa.Table) -> pa.Table:
        """In their order."""
        rows = [row for row in batch.to_pylist() if row["path"] not in self._done]
        images = [row["image"] if "image" in row else row["path"] for row in rows]
        outcomes = self._classifier.stream(images, self._top_k)
        return pa.Table.from_pylist(
            [self._row(row["path"], outcome) for row, outcome in zip(rows, outcomes, strict=True)], SCHEMA
        )

    def _row(self, path: str, outcome: Any) -> dict[str, Any]:
        if isinstance(outcome, Exception):
            told = error_fields(outcome)
            return {"path": path, "model": self._model, "error": f"{told['code']}: {told['message']}"}
        predictions = [{"index": p.index, "label": p.label, "probability": p.probability} for p in outcome.predictions]
        return {"path": path, "model": self._model, "predictions": predictions}


def keyed(table: pa.Table, image: str, key: str) -> pa.Table:
    """Rows of a parquet file as `path` and `image`; an image may be a struct with its `bytes`, as the Hub has them."""
    images = table[image]
    if pa.types.is_struct(images.type):
        images = pc.struct_field(images, "bytes")
    name, _, field = key.partition(".")
    keys = pc.struct_field(table[name], field) if field else table[name]
    return pa.table({"path": keys.cast(pa.string()), "image": images.cast(pa.binary())})


def of_samples(samples: pa.Table) -> pa.Table:
    """Samples of a WebDataset as `path` (their key) and `image`, whatever its suffix; null if it has none."""
    pairs = [
        (row["__key__"], next((row[name] for name in row if f".{name}".lower() in SUFFIXES and row[name]), None))
        for row in samples.to_pylist()
    ]
    return pa.table(
        {
            "path": pa.array([key for key, _ in pairs], pa.string()),
            "image": pa.array([i for _, i in pairs], pa.binary()),
        }
    )
