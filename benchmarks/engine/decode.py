"""From JPEG to the model's pixels: the service's decode and preprocess steps beside the plain Pillow pipeline."""

import io
import statistics
from functools import partial

import numpy as np
from PIL import Image

from benchmarks.engine.rounds import interleaved_rates
from benchmarks.photograph import photograph
from benchmarks.report import Result, Row
from service.arrays import Pixels
from service.bundles.manifest import Preprocessing
from service.images.decode import decode
from service.images.preprocess import preparation

NOTES = """\
One thread, one synthetic photograph a size, saved by Pillow at quality 85. Plain: decode, resize the short side to 256
(bicubic), crop 224 from the centre. Times are medians of interleaved rounds, the ratio is the median of the rounds'
ratios; differences are of 8-bit pixels, ours from plain."""

SPEC = Preprocessing(resize_short=256, interpolation="bicubic", crop=224, mean=(0.5,) * 3, std=(0.5,) * 3)
Size = tuple[int, int]


def measure_decode(sizes: list[Size], rounds: int, seconds: float) -> Result:
    """A row for each size."""
    files = {size: _jpeg(size) for size in sizes}
    ours = preparation(SPEC, max(width * height for width, height in sizes))
    passes = {
        (size, name): partial(run, data)
        for size, data in files.items()
        for name, run in {"plain": plain, "ours": ours}.items()
    }
    rates = interleaved_rates(passes, rounds, seconds, "decode")
    return Result(
        {
            "rows": [
                decode_row(size, data, ours(data)[0], rates[size, "plain"], rates[size, "ours"])
                for size, data in files.items()
            ]
        },
        NOTES,
    )


def plain(data: bytes) -> Pixels:
    """What a server does that just uses Pillow, with torchvision's rounding of sizes."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short = min(image.size)
    width, height = (int(SPEC.resize_short * side / short) for side in image.size)
    left, top = round((width - SPEC.crop) / 2), round((height - SPEC.crop) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SPEC.crop, top + SPEC.crop)))


def decode_row(size: Size, data: bytes, pixels: Pixels, plain_rates: list[float], our_rates: list[float]) -> Row:
    """What one size takes either way, and what it changes."""
    difference = np.abs(pixels.astype(int) - plain(data))
    decoded = decode(data, size[0] * size[1], smallest=2 * SPEC.resize_short).image
    return {
        "size": "x".join(map(str, size)),
        "KB": len(data) // 1000,
        "decoded at": "x".join(map(str, decoded.size)),
        "plain ms": round(1000 / statistics.median(plain_rates), 2),
        "ours ms": round(1000 / statistics.median(our_rates), 2),
        "ratio": round(statistics.median(o / p for o, p in zip(our_rates, plain_rates, strict=True)), 2),
        "mean difference": round(float(difference.mean()), 3),
        "max difference": int(difference.max()),
    }


def _jpeg(size: Size) -> bytes:
    file = io.BytesIO()
    photograph(*size).save(file, "JPEG", quality=85)
    return file.getvalue()
