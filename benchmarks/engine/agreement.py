"""Whether an engine that is fast is also right: against the reference, and whoever shares the batch."""

from dataclasses import dataclass

import numpy as np

from benchmarks.engine.columns.column import Bind
from model_export.bundles.agreement import cosines
from service.arrays import LogitBatch, PixelBatch


@dataclass(frozen=True, slots=True)
class Agreement:
    """An engine's answers at one batch size beside the fp32 reference's."""

    cosine: float  # of the worst image
    top1: float  # share of images, 0..1
    batch_invariant: bool | None  # None: alone in its batch, an image has no neighbours


def measure_agreement(bind: Bind, images: PixelBatch, reference: LogitBatch, batch: int) -> Agreement:
    """Run `images` [N, H, W, 3] in batches of `batch` and compare with `reference` [N, classes].

    Only whole batches are run, wrapping round. For invariance every other image of a batch is replaced by noise:
    the logits of those that stayed must keep every bit.
    """
    order = np.arange(-(-len(images) // batch) * batch) % len(images)
    batches = order.reshape(-1, batch)
    logits = np.concatenate([bind(images[chosen])() for chosen in batches])
    expected = reference[order]
    return Agreement(
        cosine=float(cosines(logits, expected).min()),
        top1=float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        batch_invariant=_ignores_neighbours(bind, images[batches[0]], logits[:batch]) if batch > 1 else None,
    )


def _ignores_neighbours(bind: Bind, images: PixelBatch, logits: LogitBatch) -> bool:
    strangers = images.copy()
    strangers[1::2] = np.random.default_rng(0).integers(0, 256, images[1::2].shape, np.uint8)
    return bool(np.array_equal(bind(strangers)()[::2], logits[::2]))
