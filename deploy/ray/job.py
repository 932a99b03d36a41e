"""Classify images on all machines of a Ray cluster (docs/ray.md): python job.py SOURCE OUTPUT [--model B].

Ray reads, schedules, and does again what a lost machine had; `service.Classifier` classifies.
"""

import argparse
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray.data
from parts import Output, Refused
from rows import Classify, keyed, of_sample

from service.bundles.bundle import load_bundle
from service.offline.classifier import check_gives, find_bundle
from service.offline.paths import ImagePaths, PathSet

_LIGHT = 0.1  # of a core, for tasks that read, so that none waits for those who classify


def read(options: argparse.Namespace, done: PathSet) -> ray.data.Dataset | None:
    """Rows with `path`, and `image` unless every machine can read that file; None if all are done."""
    if options.format == "folder":
        paths = [path for path in ImagePaths([options.source], ()) if path not in done]
        table = pa.table({"path": pa.array(paths, pa.string())})
        parts = [table.slice(start, options.rows) for start in range(0, len(paths), options.rows)]
        return ray.data.from_arrow(parts) if parts else None
    if options.format == "parquet":
        columns = {options.image: None, options.key.partition(".")[0]: None}
        table = ray.data.read_parquet(options.source, num_cpus=_LIGHT).select_columns(list(columns))
        to_rows = partial(keyed, image=options.image, key=options.key)
        return table.map_batches(to_rows, batch_format="pyarrow", num_cpus=_LIGHT)
    samples = ray.data.read_webdataset(options.source, decoder=None, num_cpus=_LIGHT)
    return samples.map(of_sample, num_cpus=_LIGHT)


def main() -> None:
    """Exits with 1 if rows are missing or there twice, or the output is another job's."""
    options = _parser().parse_args()
    if options.format == "folder":
        if not Path(options.source).is_dir():
            sys.exit(f"{options.source}: no such folder")
        options.source = str(Path(options.source).absolute())  # on other machines, as it is here
    bundle = load_bundle(find_bundle(options.model))
    try:
        check_gives(bundle.manifest, features=options.features)
    except ValueError as refused:
        sys.exit(str(refused))
    model = f"{bundle.manifest.name}/{bundle.manifest.version}@{bundle.sha256[:12]}"
    options.output.mkdir(parents=True, exist_ok=True)
    output = Output(options.output.absolute(), model, options.top_k, options.features)
    done = PathSet()
    try:
        for path in output.paths():
            done.add(path)
    except Refused as refused:
        sys.exit(f"{refused}; it is left as it is")
    print(f"{len(done):,} rows are there already", flush=True)
    if images := read(options, done):
        # Ray lists the files of other sources in a task that takes a whole core, which nobody else may have for good.
        cores = int(ray.cluster_resources()["CPU"]) - (options.format != "folder")
        actors = cores // options.cores
        if not actors:
            sys.exit(f"there are {cores} cores to classify with; --cores {options.cores} takes more")
        images.map_batches(
            Classify,
            fn_constructor_args=(str(bundle.path), output, options.top_k, options.cores, done),
            batch_format="pyarrow",
            batch_size=None,  # a block is a part
            num_cpus=options.cores - 2 * _LIGHT,
            compute=ray.data.ActorPoolStrategy(min_size=actors, max_size=max(actors, options.actors)),
        ).materialize()
    counted = Counter(output.paths())
    twice = sum(count - 1 for count in counted.values())
    missing = (
        [path for path in ImagePaths([options.source], ()) if path not in counted] if options.format == "folder" else []
    )
    print(f"{len(counted):,} rows; {output.failed():,} with errors; {twice} twice; {len(missing)} missing")
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
    parser.add_argument(
        "--features", action="store_true", help="a column of these too; of a model without a head, these alone"
    )
    parser.add_argument("--cores", type=int, default=1, help="of an actor, which has a copy of the model for each")
    parser.add_argument(
        "--actors", type=int, default=0, help="most of them, where machines come; default: those of now"
    )
    parser.add_argument("--rows", type=int, default=256, help="folder: of a task, and of a part; default: 256")
    parser.add_argument(
        "--image", default="image", help="parquet: column of the encoded images, or of structs with bytes"
    )
    parser.add_argument("--key", default="path", help="parquet: column that tells rows apart, such as id or image.path")
    return parser


if __name__ == "__main__":
    main()
