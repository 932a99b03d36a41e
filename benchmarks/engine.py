"""The engine alone: images per second by batch size and threads, without HTTP or decoding."""

import itertools
import statistics
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.report import Row
from service.bundle import load_bundle
from service.engine import Engine, PixelBatch
from service.onnx_engine import OnnxEngine


def measure_engine(
    bundle_path: Path, threads: list[int], batch_sizes: list[int], rounds: int, seconds: float
) -> list[Row]:
    """One row a combination, measured in interleaved rounds so that drift of the machine hits all alike.

    A figure is the median of the rounds' rates; spread is (max - min) / median.
    """
    bundle = load_bundle(bundle_path)
    manifest = bundle.manifest
    random = np.random.default_rng(0)
    side = manifest.image_size
    engines = {n: OnnxEngine(bundle.model_path, n, ["CPUExecutionProvider"]) for n in threads}
    inputs = {n: random.integers(0, 256, (n, side, side, 3), np.uint8) for n in batch_sizes}
    combinations = list(itertools.product(threads, batch_sizes))
    rates: dict[tuple[int, int], list[float]] = {combination: [] for combination in combinations}
    for engine, pixels in itertools.product(engines.values(), inputs.values()):
        engine.run(pixels)
    for _, (n, size) in tqdm(list(itertools.product(range(rounds), combinations)), desc="engine", unit="run"):
        rates[n, size].append(images_per_second(engines[n], inputs[size], seconds))
    return [
        {
            "model": f"{manifest.name}/{manifest.version} ({manifest.variant} {manifest.precision})",
            "threads": n,
            "batch": size,
            "img/s": round(median),
            "img/s/core": round(median / n),
            "GFLOP/s": round(median * 2 * manifest.gmacs, 1),
            "spread": f"{(max(rates[n, size]) - min(rates[n, size])) / median:.0%}",
        }
        for n, size in combinations
        for median in [statistics.median(rates[n, size])]
    ]


def images_per_second(engine: Engine, pixels: PixelBatch, seconds: float) -> float:
    """Rate of back-to-back passes over at least `seconds`."""
    passes = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        engine.run(pixels)
        passes += 1
    return passes * len(pixels) / elapsed
