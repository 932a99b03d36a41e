"""Classify images on all machines of a Ray cluster (docs/ray.md): python job.py SOURCE OUTPUT [--model B].

Ray reads, schedules, and does again what a lost machine had; `service.Classifier` classifies.
"""

import argparse
import sys
import uuid
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from parts import Output, Refused
from ray.data.block import BlockAccessor
from ray.data.datasource import Datasink
from rows import Classify, keyed, of_samples

from service.bundles.bundle import load_bundle
from service.offline.classifier import find_bundle
from service.offline.paths import ImagePaths, PathSet

_LIGHT = 0.1  # cores that are set aside for reading and writing, so that neither waits for those who classify


class Parts(Datasink[None]):
    """A part for each of Ray's tasks: one that is run again, since its machine was lost, writes the same part."""

    def __init__(self, output: Output) -> None:
        self._output, self._run = output, uuid.uuid4().hex

    def write(self, blocks: Iterable[Any], ctx: Any) -> None:
        """On one of the machines."""
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        if rows := pa.concat_tables([table for table in tables if table.num_rows] or tables[:1]):
            self._output.write(f"{self._run}-{ctx.task_idx:06}.parquet", rows)


def read(options: argparse.Namespace, done: PathSet) -> ray.data.Dataset:
    """Rows with `path`, and `image` unless it is the path of a file that every machine can read."""
    light: dict[str, Any] = {"num_cpus": _LIGHT}
    if options.format == "folder":
        paths = [path for path in ImagePaths([options.source], ()) if path not in done]
        table = pa.table({"path": pa.array(paths, pa.string())})
        return ray.data.from_arrow([table.slice(start, options.rows) for start in range(0, len(paths), options.rows)])
    if options.format == "parquet":
        columns = [options.image, options.key.partition(".")[0]]
        table = ray.data.read_parquet(options.source, columns=list(dict.fromkeys(columns)), ray_remote_args=light)
        return table.map_batches(partial(keyed, image=options.image, key=options.key), batch_format="pyarrow", **light)
    samples = ray.data.read_webdataset(options.source, decoder=False, ray_remote_args=light)
    return samples.map_batches(of_samples, batch_format="pyarrow", **light)


def main() -> None:
    """Exits with 1 if rows are missing or there twice, or the output is another job's."""
    options = _parser().parse_args()
    bundle = load_bundle(find_bundle(options.model))
    model = f"{bundle.manifest.name}/{bundle.manifest.version}@{bundle.sha256[:12]}"
    options.output.mkdir(parents=True, exist_ok=True)
    output = Output(options.output.absolute(), model, options.top_k)
    done = PathSet()
    try:
        for path in output.paths():
            done.add(path)
    except Refused as refused:
        sys.exit(f"{refused}; it is left as it is")
    print(f"{len(done):,} rows are there already", flush=True)
    images = read(options, done)
    if options.format != "folder" or images.count():
        cores = int(ray.cluster_resources()["CPU"])
        most = max(1, cores // options.cores)
        rows = images.map_batches(
            Classify,
            fn_constructor_args=(str(bundle.path), model, options.top_k, options.cores, done),
            batch_format="pyarrow",
            batch_size=options.rows,
            num_cpus=options.cores - 2 * _LIGHT,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        )
        rows.write_datasink(Parts(output), ray_remote_args={"num_cpus": _LIGHT})
    counted = Counter(output.paths())
    twice = sum(count - 1 for count in counted.values())
    missing = (
        [path for path in ImagePaths([options.source], ()) if path not in counted] if options.format == "folder" else []
    )
    print(f"{len(counted):,} rows; {output.failed():,} have no predictions; {twice} twice; {len(missing)} missing")
    sys.exit(1 if twice or missing else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "source", help="folder on a volume of all machines, or parquet files or .tar files, wherever Ray reads"
    )
    parser.add_argument(
        "output", type=Path, help="folder on a volume of all machines; a run goes on with what is there"
    )
    parser.add_argument("--format", choices=["folder", "parquet", "webdataset"], default="folder")
    parser.add_argument(
        "--model", default="digits", help="bundle's path on every machine, or its name; default: digits"
    )
    parser.add_argument("--top-k", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1, help="of an actor, which has a copy of the model for each")
    parser.add_argument("--rows", type=int, default=256, help="of a task, and at least of a part; default: 256")
    parser.add_argument(
        "--image", default="image", help="parquet: column of the encoded images, or of structs with bytes"
    )
    parser.add_argument("--key", default="path", help="parquet: column that tells rows apart, such as id or image.path")
    return parser


if __name__ == "__main__":
    main()
