"""What can be evaluated: a bundle, run as it is served, or a checkpoint, run by torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from model_export.bundles.parity import MAX_PIXELS
from model_export.bundles.reference import torch_runner
from model_export.bundles.synsets import names_of
from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model_export.checkpoints.class_names import ClassNames
from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import load_bundle
from service.bundles.golden import GoldenImages
from service.bundles.manifest import Preprocessing
from service.engines.choice import choose_engine, cpu_engines
from service.host import allowed_cores
from service.images.preprocess import preparation

_NO_HEAD = "has no head, so it names no class"


@dataclass(frozen=True)
class Subject:
    """A classifier of pixels."""

    name: str
    preprocessing: Preprocessing
    names: ClassNames | None  # of the classes
    classes: int
    threads: int  # cores that `run` occupies
    run: Callable[[PixelBatch], LogitBatch]
    notes: tuple[str, ...] = ()  # what was assumed, a sentence each


def open_subject(source: str, names: ClassNames | None = None) -> Subject:
    """A bundle's folder or anything that `read_checkpoint` takes; `names` are its classes' instead of its own.

    Raises BundleError, EngineError, GoldenMismatch or CheckpointError.
    """
    threads = max(1, int(allowed_cores()))
    if (Path(source) / "manifest.json").is_file():
        bundle = load_bundle(Path(source))
        manifest = bundle.manifest
        if not manifest.classes:
            raise CheckpointError(f"{source}: {_NO_HEAD}")
        engines = cpu_engines(bundle.model_path, manifest.precision, threads)
        golden = GoldenImages(bundle, preparation(manifest.preprocessing, MAX_PIXELS))
        engine = choose_engine(engines, golden.prove, manifest.image_size).engine
        name = f"{manifest.name}/{manifest.version}"
        return Subject(name, manifest.preprocessing, names or names_of(bundle), manifest.classes, threads, engine.run)
    checkpoint = read_checkpoint(source).named(names)
    if not checkpoint.config.classes:
        raise CheckpointError(f"{source}: {_NO_HEAD}; fewshot takes it")
    torch.set_num_threads(threads)
    run = torch_runner(checkpoint)
    classes = checkpoint.config.classes
    return Subject(source, checkpoint.preprocessing, checkpoint.names, classes, threads, run, checkpoint.notes)
