import io

import numpy as np
import pytest
from PIL import Image

from service.bundles.manifest import Preprocessing
from service.images.decode import decode
from service.images.preprocess import Preprocessor, preparation


def spec(resize_short: int = 256, crop: int = 224, interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(
        resize_short=resize_short, interpolation=interpolation, crop=crop, mean=(0.5,) * 3, std=(0.5,) * 3
    )


def resize_then_crop(image: Image.Image, resize_short: int, crop: int, resample: Image.Resampling) -> np.ndarray:
    """torchvision's Resize(resize_short) and CenterCrop(crop), written out."""
    scale = resize_short / min(image.size)
    size = tuple(resize_short if side == min(image.size) else int(side * scale) for side in image.size)
    resized = image.resize(size, resample)
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (100, 80), (1000, 300), (33, 32)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_equals_resize_then_centre_crop(size: tuple[int, int], interpolation: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise).resize(size)
    pixels = Preprocessor(spec(interpolation=interpolation))(image)
    expected = resize_then_crop(image, 256, 224, Image.Resampling[interpolation.upper()])
    difference = np.abs(pixels.astype(int) - expected)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_an_image_of_the_right_size_is_untouched() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(Preprocessor(spec(32, 32))(Image.fromarray(noise)), noise)


@pytest.mark.parametrize("size", [(1, 1), (1, 50_000), (50_000, 1), (3, 2)])
def test_extreme_shapes_keep_their_colour(size: tuple[int, int]) -> None:
    pixels = Preprocessor(spec())(Image.new("RGB", size, (9, 99, 199)))
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[9, 99, 199]]


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_gray_that_stays_one_channel_gives_the_same_pixels(format_: str, interpolation: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8))
    file = io.BytesIO()
    noise.save(file, format_)
    pixels, info = preparation(spec(interpolation=interpolation), 10**6)(file.getvalue())
    rgb, _, area = decode(file.getvalue(), 10**6)
    assert rgb.mode == "RGB"
    assert info.stored_as == "gray"
    assert np.array_equal(pixels, Preprocessor(spec(interpolation=interpolation))(rgb, area))
