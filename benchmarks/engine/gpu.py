"""On a GPU: the CUDA engine beside torch.compile in bf16 and the GPU's own bf16 GEMM rate, in one interleaved run."""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import positive, whole
from benchmarks.engine.published import IMAGE_SIZE, TPU_V3, beside_the_paper
from benchmarks.engine.rounds import interleaved_rates
from benchmarks.report import RESULTS, Result, Row
from service.arrays import PixelBatch
from service.bundles.bundle import Bundle, load_bundle
from service.bundles.golden import GoldenImages
from service.bundles.manifest import Manifest
from service.engines.gpu.cuda_engine import CudaEngine
from service.engines.gpu.device import find_gpu
from service.images.preprocess import preparation

_GEMM = 8192  # side of the square matrices: large enough that the rate is the hardware's

Pass = Callable[[], object]  # finished when it returns
Name = tuple[str, int]  # contender, batch size

_GEMM_NAME: Name = "GEMM", 1


def add_command(commands: Any) -> None:
    """Add `gpu` to the commands of `python -m benchmarks`."""
    parser: argparse.ArgumentParser = commands.add_parser("gpu")
    parser.set_defaults(measure=_measure, name="gpu")
    parser.add_argument("--bundle", type=Path, required=True, help="exported with --precision bf16 or fp16")
    parser.add_argument(
        "--batch-sizes", type=lambda text: [whole(size) for size in text.split(",")], default=[1, 8, 64]
    )
    parser.add_argument("--rounds", type=whole, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=positive, default=1, help="of one run, default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")


def _measure(options: argparse.Namespace) -> Result:
    bundle = load_bundle(options.bundle)
    side = bundle.manifest.image_size
    random = np.random.default_rng(0)
    inputs = {size: random.integers(0, 256, (size, side, side, 3), np.uint8) for size in options.batch_sizes}
    passes = _cuda_passes(bundle, inputs) | _torch_passes(bundle, inputs)
    rates, gemm = interleave(passes, _gemm(), options.rounds, options.seconds)
    model = {"gpu": find_gpu().name, "model": f"{bundle.manifest.variant} {bundle.manifest.precision}"}
    tables = {
        "rows": [model | row for row in rows(rates, gemm, bundle.manifest.gmacs)],
        "beside the paper": paper_rows(bundle.manifest, rates, gemm),
    }
    return Result(tables)


def interleave(
    passes: dict[Name, Pass], gemm: Pass, rounds: int, seconds: float
) -> tuple[dict[Name, list[float]], list[float]]:
    """Images per second of each contender, and GEMM FLOP/s, in every round: drift of the clocks hits all alike."""
    everything = {_GEMM_NAME: gemm} | passes
    for warm_up in everything.values():
        for _ in range(2):  # allocation, then the capture of a CUDA graph or the compiler
            warm_up()
    rates = interleaved_rates(everything, rounds, seconds, "gpu")
    gemms = [2 * _GEMM**3 * rate for rate in rates.pop(_GEMM_NAME)]
    return {name: [name[1] * rate for rate in measured] for name, measured in rates.items()}, gemms


def rows(rates: dict[Name, list[float]], gemm: list[float], gmacs: float) -> list[Row]:
    """One row a contender and batch size: the median of its rates, and of its share of the same round's GEMM rate."""
    return [
        {
            "contender": contender,
            "batch": size,
            "img/s": round(statistics.median(measured)),
            "TFLOP/s": round(statistics.median(measured) * 2 * gmacs / 1e3, 1),
            "of the bf16 GEMM rate": f"{statistics.median(shares):.0%}",
            "GEMM TFLOP/s": round(statistics.median(gemm) / 1e12, 1),
            "spread": f"{(max(measured) - min(measured)) / statistics.median(measured):.0%}",
        }
        for (contender, size), measured in rates.items()
        for shares in [[rate * 2e9 * gmacs / peak for rate, peak in zip(measured, gemm, strict=True)]]
    ]


def paper_rows(manifest: Manifest, rates: dict[Name, list[float]], gemm: list[float]) -> list[Row]:
    """Each contender at its fastest batch size beside the paper's figure; none for a model that is not in the paper."""
    if manifest.variant not in TPU_V3 or manifest.image_size != IMAGE_SIZE:
        return []
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    fastest = {contender: (contender, size) for contender, size in sorted(medians, key=lambda name: medians[name])}
    peak = statistics.median(gemm) / 1e9
    return [
        beside_the_paper(manifest.variant, 2 * manifest.gmacs, *name, medians[name], peak) for name in fastest.values()
    ]


def _cuda_passes(bundle: Bundle, inputs: dict[int, PixelBatch]) -> dict[Name, Pass]:
    """Ours, with the copies that serving needs and without. Raises GoldenMismatch if the answers are wrong."""
    engine = CudaEngine(bundle, buckets=tuple(inputs))
    golden = GoldenImages(bundle, preparation(bundle.manifest.preprocessing, max_pixels=50_000_000))
    golden.prove(engine)
    passes: dict[Name, Pass] = {}
    for size, pixels in inputs.items():
        passes["onnxruntime, from and to the host", size] = partial(engine.run, pixels)
        passes["onnxruntime, on the GPU", size] = partial(engine.passes.replay, size)
    return passes


def _torch_passes(bundle: Bundle, inputs: dict[int, PixelBatch]) -> dict[Name, Pass]:
    """torch.compile at its best, bf16 with CUDA graphs, of the same architecture; random weights are as fast as any."""
    import torch  # noqa: PLC0415 - the other benchmarks need none

    from model_export.mlp_mixer import MlpMixer  # noqa: PLC0415
    from model_export.variants import config_of  # noqa: PLC0415

    manifest = bundle.manifest
    config = replace(config_of(manifest.variant, manifest.classes, manifest.gelu), image_size=manifest.image_size)
    model = torch.compile(MlpMixer(config).eval().to("cuda", torch.bfloat16), mode="max-autotune")

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(pixels.permute(0, 3, 1, 2).to(torch.bfloat16))
        return logits

    def from_the_host(pixels: torch.Tensor) -> torch.Tensor:
        return run(pixels.cuda()).float().cpu()

    def on_the_gpu(pixels: torch.Tensor) -> None:
        run(pixels)
        torch.cuda.synchronize()

    passes: dict[Name, Pass] = {}
    for size, pixels in inputs.items():
        here, there = torch.from_numpy(pixels), torch.from_numpy(pixels).cuda()
        passes["torch.compile bf16, from and to the host", size] = partial(from_the_host, here)
        passes["torch.compile bf16, on the GPU", size] = partial(on_the_gpu, there)
    return passes


def _gemm() -> Pass:
    import torch  # noqa: PLC0415

    a, b = (torch.randn(_GEMM, _GEMM, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, b, out=product)
        torch.cuda.synchronize()

    return run
