import numpy as np
import pytest

from benchmarks.engine.agreement import Agreement, measure_agreement
from benchmarks.engine.columns.column import on_pixels
from service.arrays import LogitBatch, PixelBatch

REFERENCE = np.array([[3, 4], [4, 3], [0, 2]], np.float32)
IMAGES = np.arange(3, dtype=np.uint8).repeat(3).reshape(3, 1, 1, 3)  # an image's level is its number


class LookUpEngine:
    """Answers image i with row i; noise, of any level, is answered too."""

    def __init__(self, logits: LogitBatch) -> None:
        self.logits = logits
        self.batches: list[list[int]] = []

    def run(self, pixels: PixelBatch) -> LogitBatch:
        levels = pixels[:, 0, 0, 0]
        self.batches.append(levels.tolist())
        return self.logits[levels % len(self.logits)]


class BatchScalingEngine(LookUpEngine):
    """As dynamic quantisation does: the brightest pixel of the batch sets the scale of all."""

    def run(self, pixels: PixelBatch) -> LogitBatch:
        return super().run(pixels) * np.float32(1 + pixels.max() * 1e-6)


def test_the_reference_agrees_with_itself_in_whole_batches_of_every_size() -> None:
    engine = LookUpEngine(REFERENCE)
    assert measure_agreement(on_pixels(engine), IMAGES, REFERENCE, 2) == Agreement(pytest.approx(1), 1, True)
    assert engine.batches[:2] == [[0, 1], [2, 0]]
    assert {len(batch) for batch in engine.batches} == {2}


def test_cosine_is_the_worst_images_and_top1_a_share() -> None:
    swapped = REFERENCE[[0, 0, 2]]  # image 1 is answered [3, 4] instead of [4, 3]
    agreement = measure_agreement(on_pixels(LookUpEngine(swapped)), IMAGES, REFERENCE, 3)
    assert agreement.cosine == pytest.approx(-1)  # less their means, they are opposites
    assert agreement.top1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_an_engine_that_looks_at_neighbours_is_found_out(batch: int) -> None:
    assert (
        measure_agreement(on_pixels(BatchScalingEngine(REFERENCE)), IMAGES, REFERENCE, batch).batch_invariant is False
    )
    assert measure_agreement(on_pixels(LookUpEngine(REFERENCE)), IMAGES, REFERENCE, batch).batch_invariant is True


def test_an_image_alone_has_no_neighbours() -> None:
    assert measure_agreement(on_pixels(BatchScalingEngine(REFERENCE)), IMAGES, REFERENCE, 1).batch_invariant is None
