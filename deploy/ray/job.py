"""Classify images on all machines of a Ray cluster (docs/ray.md): python job.py SOURCE OUTPUT [--model B].

Ray reads, schedules, and does again what a lost machine had; `service.Classifier` classifies.
"""

import argparse
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from parts import Output, Refused
from rows import Classify, keyed, named, of_sample, path_table

from service.bundles.bundle import BundleError, load_bundle
from service.offline.classifier import check_gives, find_bundle
from service.offline.command import positive
from service.offline.paths import ImagePaths, PathSet

if TYPE_CHECKING:
    import ray.data

_LIGHT = 0.1  # of a core, for tasks that read, so that none waits for those who classify


def read(options: argparse.Namespace, done: PathSet) -> "ray.data.Dataset | None":
    """Rows with `path`, and `image` unless every machine can read that file; None if all are done."""
    import ray.data  # noqa: PLC0415 - what is refused is refused without it

    if options.format == "folder":
        paths = [path for path in ImagePaths([options.source], ()) if named(os.fsencode(path)) not in done]
        table = path_table(paths)
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
    """Exits with 1 if rows are missing or there twice, or if it cannot go on; with 2 for bad arguments."""
    options = _parser().parse_args()
    try:
        sys.exit(_run(options))
    except (BundleError, Refused, OSError, ValueError) as error:
        sys.exit(f"job.py: {error}")


def _run(options: argparse.Namespace) -> int:
    if options.format == "folder":
        if not Path(options.source).is_dir():
            raise ValueError(f"{options.source}: no such folder")
        options.source = str(Path(options.source).absolute())  # on other machines, as it is here
    bundle = load_bundle(find_bundle(options.model))
    check_gives(bundle.manifest, features=options.features)
    model = f"{bundle.manifest.name}/{bundle.manifest.version}@{bundle.sha256[:12]}"
    options.output.mkdir(parents=True, exist_ok=True)
    output = Output(options.output.absolute(), model, options.top_k, options.features)
    done = PathSet()
    for path in output.paths():
        done.add(path)
    print(f"{len(done):,} rows are there already", flush=True)
    _classify(options, str(bundle.path), output, done)
    counted = Counter(output.paths())
    if not counted:
        raise ValueError(f"{options.source}: no images")
    twice = sum(count - 1 for count in counted.values())
    missing = 0
    if options.format == "folder":
        missing = sum(named(os.fsencode(path)) not in counted for path in ImagePaths([options.source], ()))
    print(f"{len(counted):,} rows; {output.failed():,} with errors; {twice} twice; {missing} missing")
    return 1 if twice or missing else 0


def _classify(options: argparse.Namespace, bundle: str, output: Output, done: PathSet) -> None:
    """Raises ValueError for what fails in a task or an actor, such as a column that is not there, as Ray tells it."""
    import ray.data  # noqa: PLC0415 - see above
    from ray.exceptions import RayError  # noqa: PLC0415

    try:
        if images := read(options, done):
            # Ray lists the files of other sources in a task that takes a whole core: that one is nobody's for good.
            cores = int(ray.cluster_resources()["CPU"]) - (options.format != "folder")
            actors = cores // options.cores
            if not actors:
                raise ValueError(f"there are {cores} cores to classify with; --cores {options.cores} takes more")
            images.map_batches(
                Classify,
                fn_constructor_args=(bundle, output, options.top_k, options.cores, done),
                batch_format="pyarrow",
                batch_size=None,  # a block is a part
                num_cpus=options.cores - 2 * _LIGHT,
                compute=ray.data.ActorPoolStrategy(min_size=actors, max_size=max(actors, options.actors)),
            ).materialize()
    except RayError as error:
        first, *_ = str(error).strip().split("\n\nThe above exception was the direct cause")  # of a failed task's
        raise ValueError(first.splitlines()[-1]) from None


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
    parser.add_argument("--top-k", type=positive, default=5)
    parser.add_argument(
        "--features", action="store_true", help="a column of these too; of a model without a head, these alone"
    )
    parser.add_argument("--cores", type=positive, default=1, help="of an actor, which has a copy of the model for each")
    parser.add_argument(
        "--actors", type=positive, default=1, help="most of them, where machines come; default: those of now"
    )
    parser.add_argument("--rows", type=positive, default=256, help="folder: of a task, and of a part; default: 256")
    parser.add_argument(
        "--image", default="image", help="parquet: column of the encoded images, or of structs with bytes"
    )
    parser.add_argument("--key", default="path", help="parquet: column that tells rows apart, such as id or image.path")
    return parser


if __name__ == "__main__":
    main()
