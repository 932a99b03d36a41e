"""What can be evaluated: a bundle, run as it is served, or a checkpoint, run by torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from model_export.bundles.parity import MAX_PIXELS
from model_export.bundles.reference import torch_runner
from model_export.bundles.synsets import identified_labels
from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import load_bundle
from service.bundles.golden import GoldenImages
from service.bundles.manifest import Preprocessing
from service.engines.choice import choose_engine, cpu_engines
from service.host import allowed_cores
from service.images.preprocess import preparation


@dataclass(frozen=True)
class Subject:
    """A classifier of pixels."""

    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    classes: int
    threads: int  # cores that `run` occupies
    run: Callable[[PixelBatch], LogitBatch]


def open_subject(source: str) -> Subject:
    """A bundle's folder or anything that `read_checkpoint` takes.

    Raises BundleError, EngineError, GoldenMismatch or CheckpointError.
    """
    threads = max(1, int(allowed_cores()))
    if (Path(source) / "manifest.json").is_file():
        bundle = load_bundle(Path(source))
        manifest = bundle.manifest
        engines = cpu_engines(bundle.model_path, manifest.precision, threads)
        golden = GoldenImages(bundle, preparation(manifest.preprocessing, MAX_PIXELS))
        engine = choose_engine(engines, lambda engine: golden.prove(engine.run), manifest.image_size).engine
        name = f"{manifest.name}/{manifest.version}"
        return Subject(name, manifest.preprocessing, identified_labels(bundle), manifest.classes, threads, engine.run)
    checkpoint = read_checkpoint(source)
    if not checkpoint.config.classes:
        raise CheckpointError(f"{source}: has no head, so it names no class; fewshot takes it")
    torch.set_num_threads(threads)
    run = torch_runner(checkpoint)
    labels = checkpoint.named().identified_labels
    return Subject(source, checkpoint.preprocessing, labels, checkpoint.config.classes, threads, run)
