import numpy as np
import pytest
from PIL import Image

from model_export.evaluation.squash import preprocessor
from service.bundles.manifest import Preprocessing

HALF = (0.5, 0.5, 0.5)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, 0 * x], axis=-1).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(300, 100), (100, 300), (200, 200)])
def test_both_sides_are_squashed_before_the_central_square(width: int, height: int) -> None:
    """256 to 224: an eighth goes, on each axis, however long the sides are."""
    spec = Preprocessing(resize_short=256, interpolation="bilinear", crop=224, mean=HALF, std=HALF)
    image = gradient(width, height)
    pixels = preprocessor(spec, "squash")(image).astype(int)
    by_steps = image.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    assert pixels.shape == (224, 224, 3)
    assert np.abs(pixels - np.asarray(by_steps, int)).max() <= 2
    if width != height:
        assert np.abs(pixels - preprocessor(spec, "short")(image).astype(int)).max() > 50
