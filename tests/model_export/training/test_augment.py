import numpy as np
import pytest
from PIL import Image

from model_export.training.augment import Augmentation
from model_export.training.randaugment import randaugment
from service.bundles.manifest import Preprocessing
from service.images.preprocess import Preprocessor


def spec(resize_short: int = 16, crop: int = 16) -> Preprocessing:
    half = (0.5, 0.5, 0.5)
    return Preprocessing(resize_short=resize_short, interpolation="bilinear", crop=crop, mean=half, std=half)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, 0 * x], axis=-1).astype(np.uint8))


def draws(augmentation: Augmentation, image: Image.Image, count: int = 50) -> np.ndarray:
    return np.stack([augmentation(image, np.random.default_rng(i)) for i in range(count)]).astype(int)


def test_a_square_that_fits_exactly_is_cropped_as_in_evaluation() -> None:
    image = gradient(40, 40)
    cropped = Augmentation(spec(), "resmall", flip=False, magnitude=0)(image, np.random.default_rng(0))
    assert np.array_equal(cropped, Preprocessor(spec())(image))


def test_resmall_crop_moves_along_the_long_side_and_keeps_the_scale() -> None:
    pixels = draws(Augmentation(spec(), "resmall", flip=False, magnitude=0), gradient(80, 40))
    red, green = pixels[..., 0].mean(axis=(1, 2)), pixels[..., 1].mean(axis=(1, 2))
    assert np.ptp(green) == 0
    assert red.min() < 80 < 175 < red.max()
    widths = pixels[:, 0, -1, 0] - pixels[:, 0, 0, 0]  # half of the image's width, less a pixel
    assert abs(widths - 255 / 2 * 15 / 16).max() < 5


def test_inception_crop_changes_the_scale() -> None:
    pixels = draws(Augmentation(spec(), "inception", flip=False, magnitude=0), gradient(64, 64))
    widths = pixels[:, 8, -1, 0] - pixels[:, 8, 0, 0]
    assert pixels.shape == (50, 16, 16, 3)
    assert widths.min() < 110 < 190 < widths.max()


def test_half_of_the_images_are_flipped_unless_it_is_switched_off() -> None:
    image = gradient(16, 16)
    flipped = draws(Augmentation(spec(), "resmall", flip=True, magnitude=0), image, 200)
    assert 70 < (flipped[:, 0, 0, 0] > flipped[:, 0, -1, 0]).sum() < 130
    kept = draws(Augmentation(spec(), "resmall", flip=False, magnitude=0), image)
    assert (kept[:, 0, 0, 0] < kept[:, 0, -1, 0]).all()


@pytest.mark.parametrize("magnitude", [1, 10, 15, 20])
def test_randaugment_changes_most_images_and_keeps_their_form(magnitude: float) -> None:
    image = gradient(32, 24)
    results = [randaugment(image, 2, magnitude, np.random.default_rng(seed)) for seed in range(60)]
    assert {(result.size, result.mode) for result in results} == {((32, 24), "RGB")}
    different = {result.tobytes() for result in results}
    assert len(different) > 30
    again = [randaugment(image, 2, magnitude, np.random.default_rng(seed)) for seed in range(60)]
    assert [result.tobytes() for result in results] == [result.tobytes() for result in again]


def test_randaugment_of_no_layers_is_the_image() -> None:
    image = gradient(8, 8)
    assert randaugment(image, 0, 15, np.random.default_rng(0)).tobytes() == image.tobytes()
