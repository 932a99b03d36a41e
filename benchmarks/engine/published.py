"""What the paper published: images per second of a TPUv3 core, and the row that sets a measurement beside them."""

from benchmarks.report import Row

IMAGE_SIZE = 224  # side of the images, pixels
TPU_V3 = {  # img/s/core: Tolstikhin et al. 2021 (arXiv:2105.01601), table 3
    "S/32": 11_489,
    "B/32": 4_208,
    "S/16": 3_994,
    "B/16": 1_384,
    "L/32": 1_314,
    "L/16": 419,
    "H/14": 194,
}
TPU_V3_PEAK = 123_000 / 2  # GFLOP/s of a core, bf16: a chip has two (https://cloud.google.com/tpu/docs/v3)


def beside_the_paper(variant: str, gflop: float, engine: str, batch: int, rate: float, peak: float) -> Row:
    """The TPUv3's efficiency and ours: FLOP/s of the model's products over FLOP/s that the chip has.

    `gflop` is of an image, `rate` in img/s and `peak` in GFLOP/s of one core, which on a GPU is one accelerator.
    """
    published = TPU_V3[variant]
    return {
        "model": variant,
        "GFLOP/image": round(gflop, 2),
        "TPUv3 img/s/core": published,
        "TPUv3 % of nominal peak": round(100 * published * gflop / TPU_V3_PEAK, 1),
        "engine": engine,
        "batch": batch,
        "img/s/core": round(rate, 2),
        "GFLOP/s/core": round(rate * gflop, 1),
        "GEMM GFLOP/s/core": round(peak, 1),
        "% of GEMM peak": round(100 * rate * gflop / peak, 1),
    }
