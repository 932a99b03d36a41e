import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.arrays import LogitBatch, PixelBatch, Pixels
from service.bundles.bundle import BundleError, load_bundle
from service.bundles.golden import GoldenImages, GoldenMismatch
from tests.doubles import CLASSES, SIDE, EchoEngine, write_bundle


def prepare(image: bytes) -> tuple[Pixels, object]:
    with Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened), None


@pytest.fixture
def golden(tmp_path: Path) -> GoldenImages:
    return GoldenImages(load_bundle(write_bundle(tmp_path)), prepare)


def test_who_answers_as_the_reference_did_is_proven(golden: GoldenImages) -> None:
    assert golden.pixels.shape == (2, SIDE, SIDE, 3)
    assert golden.prove(EchoEngine().run) == 0


def test_the_largest_error_is_told(golden: GoldenImages) -> None:
    off = np.zeros((2, CLASSES), np.float32)
    off[1, 7] = -5e-4
    assert golden.prove(lambda pixels: EchoEngine().run(pixels) + off) == pytest.approx(5e-4, rel=0.01)


@pytest.mark.parametrize("error", [0.0011, -0.0011, float("nan"), float("inf")])
def test_beyond_the_tolerance_nothing_is_proven(golden: GoldenImages, error: float) -> None:
    def run(pixels: PixelBatch) -> LogitBatch:
        logits = EchoEngine().run(pixels)
        logits[0, 3] += np.float32(error)
        return logits

    with pytest.raises(GoldenMismatch, match=r"golden logits differ by \S+, tolerance 0.001"):
        golden.prove(run)


def test_images_that_are_mixed_up_are_found(golden: GoldenImages) -> None:
    with pytest.raises(GoldenMismatch):
        golden.prove(lambda pixels: EchoEngine().run(pixels[::-1]))


def test_logits_of_another_shape_are_refused(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    np.save(bundle.path / bundle.manifest.golden.logits, np.zeros((2, 3), np.float32))
    with pytest.raises(BundleError, match=r"logits\.npy: shape \(2, 3\), expected \(2, 256\)"):
        GoldenImages(bundle, prepare)
