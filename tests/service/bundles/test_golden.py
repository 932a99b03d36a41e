import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.arrays import FEATURES, LogitBatch, Outputs, PixelBatch, Pixels
from service.bundles.bundle import BundleError, load_bundle
from service.bundles.golden import GoldenImages, GoldenMismatch
from tests.doubles import CLASSES, SIDE, EchoEngine, HeadlessEngine, write_bundle


def prepare(image: bytes) -> tuple[Pixels, object]:
    with Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened), None


class Altered(EchoEngine):
    """Echoes, then changes its logits."""

    def __init__(self, change: Callable[[LogitBatch], LogitBatch]) -> None:
        super().__init__()
        self._change = change

    def run(self, pixels: PixelBatch) -> LogitBatch:
        return self._change(super().run(pixels))


@pytest.fixture
def golden(tmp_path: Path) -> GoldenImages:
    return GoldenImages(load_bundle(write_bundle(tmp_path)), prepare)


def test_who_answers_as_the_reference_did_is_proven(golden: GoldenImages) -> None:
    assert golden.pixels.shape == (2, SIDE, SIDE, 3)
    assert golden.prove(EchoEngine()) == 0


def test_the_largest_error_is_told(golden: GoldenImages) -> None:
    off = np.zeros((2, CLASSES), np.float32)
    off[1, 7] = -5e-4
    assert golden.prove(Altered(lambda logits: logits + off)) == pytest.approx(5e-4, rel=0.01)


@pytest.mark.parametrize("error", [0.0011, -0.0011, float("nan"), float("inf")])
def test_beyond_the_tolerance_nothing_is_proven(golden: GoldenImages, error: float) -> None:
    def off(logits: LogitBatch) -> LogitBatch:
        logits[0, 3] += np.float32(error)
        return logits

    with pytest.raises(GoldenMismatch, match=r"golden logits differ by \S+, tolerance 0.001"):
        golden.prove(Altered(off))


def test_images_that_are_mixed_up_are_found(golden: GoldenImages) -> None:
    with pytest.raises(GoldenMismatch):
        golden.prove(Altered(lambda logits: logits[::-1]))


@pytest.mark.parametrize(("engine", "head"), [(EchoEngine, True), (HeadlessEngine, False)])
def test_features_are_proven_as_logits_are(tmp_path: Path, engine: type[EchoEngine], head: bool) -> None:
    class Off(engine):  # type: ignore[misc, valid-type]
        def outputs(self, pixels: PixelBatch) -> Outputs:
            given: Outputs = super().outputs(pixels)
            return given | {FEATURES: given[FEATURES] + np.float32(0.01)}

    golden = GoldenImages(load_bundle(write_bundle(tmp_path, features=True, head=head)), prepare)
    assert golden.prove(engine()) == 0
    with pytest.raises(GoldenMismatch, match=r"golden features differ by 0\.01, tolerance 0.001"):
        golden.prove(Off())


def test_logits_of_another_shape_are_refused(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    np.save(bundle.path / bundle.manifest.golden.logits, np.zeros((2, 3), np.float32))
    with pytest.raises(BundleError, match=r"logits\.npy: shape \(2, 3\), expected \(2, 256\)"):
        GoldenImages(bundle, prepare)
