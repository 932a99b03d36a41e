"""The job's output: a folder of parquet files, each there whole or not at all."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_MADE_BY = b"mixer-classify"  # in a part's metadata: by which model, and how

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


class Refused(Exception):
    """An output that is not this job's; the message says why."""


class Output:
    """A folder of parts, on a volume that every machine has."""

    def __init__(self, folder: Path, model: str, top_k: int) -> None:
        self.folder = folder
        self.model = model  # name/version@ and the first digits of the sha256 of its manifest
        self._made_by = f"{model} with --top-k {top_k}"

    def parts(self) -> list[Path]:
        """Those that are there; raises Refused if one is not of this model and top_k."""
        parts = sorted(self.folder.glob("*.parquet"))
        for part in parts:
            try:
                schema = pq.read_schema(part)
            except (pa.ArrowInvalid, OSError) as error:
                raise Refused(f"{part}: {error}") from None
            made_by = (schema.metadata or {}).get(_MADE_BY, b"another program").decode(errors="replace")
            if made_by != self._made_by:
                raise Refused(f"{part} was made by {made_by}, and not by {self._made_by}")
        return parts

    def paths(self) -> Iterator[str]:
        """Of every row that is there."""
        for part in self.parts():
            yield from pq.read_table(part, columns=["path"])["path"].to_pylist()

    def failed(self) -> int:
        """Rows without predictions."""
        return sum(pq.read_table(part, columns=["error"])["error"].drop_null().length() for part in self.parts())

    def has(self, name: str) -> bool:
        """Whether a part is there."""
        return (self.folder / name).exists()

    def write(self, name: str, table: pa.Table) -> None:
        """A part, which appears whole or not at all, instead of one of the same name."""
        beside = self.folder / f".{name}.{uuid.uuid4().hex}"
        try:
            pq.write_table(table.cast(SCHEMA.with_metadata({_MADE_BY: self._made_by})), beside)
            beside.rename(self.folder / name)
        finally:
            beside.unlink(missing_ok=True)


def part_name(paths: Iterable[str]) -> str:
    """The name of the part with these rows: the same whoever writes it."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(path.encode() + b"\0")
    return f"{digest.hexdigest()}.parquet"
