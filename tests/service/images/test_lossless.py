"""Pictures in memory decode to themselves, and what is no picture is told so."""

import io

import numpy as np
import pytest
from PIL import Image

from service.images.decode import decode
from service.images.lossless import encoded
from tests.doubles import encode

PIXELS = np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, 10**6).image)


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[::2, ::-1], np.asfortranarray(PIXELS), PIXELS[:1, :1]])
def test_an_array_is_what_it_holds(pixels: np.ndarray) -> None:
    assert np.array_equal(decoded(encoded(pixels)), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_a_pillow_image_is_what_pillow_shows(mode: str) -> None:
    source = (
        Image.fromarray(PIXELS).convert("P").convert("PA") if mode == "PA" else Image.fromarray(PIXELS).convert(mode)
    )
    assert np.array_equal(decoded(encoded(source)), np.asarray(source.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    source = Image.new(mode[:-1] + "A", (4, 4), 0)
    assert (decoded(encoded(source.convert(mode))) == 255).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_of_16_bits_the_upper_ones_count(mode: str) -> None:
    order = ">u2" if mode == "I;16B" else "<u2"
    source = Image.frombytes(mode, (2, 1), np.array([0x1200, 0xFFFF], order).tobytes())
    assert decoded(encoded(source))[0, :, 0].tolist() == [0x12, 0xFF]


def with_orientation(format_: str) -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6
    return encode(Image.fromarray(PIXELS), format_, exif=exif)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_that_was_opened_is_upright_like_its_file(format_: str) -> None:
    file = with_orientation(format_)
    assert np.array_equal(decoded(encoded(Image.open(io.BytesIO(file)))), decoded(file))


def test_an_image_that_was_made_of_another_is_as_it_lies_in_memory() -> None:
    turned = Image.open(io.BytesIO(with_orientation("PNG"))).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(decoded(encoded(turned)), np.asarray(turned))


@pytest.mark.parametrize("format_", ["GIF", "PNG"])
def test_a_transparent_colour_of_a_palette_stays_so(format_: str) -> None:
    file = encode(Image.fromarray(PIXELS).quantize(8), format_, transparency=3)
    assert np.array_equal(decoded(encoded(Image.open(io.BytesIO(file)))), decoded(file))


@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS.astype(np.float32) / 255,
        PIXELS.astype(np.int64),
        PIXELS[..., 0],
        np.dstack([PIXELS, PIXELS[..., 0]]),
        PIXELS.transpose(2, 0, 1),
        PIXELS[None],
    ],
    ids=["float", "int64", "gray", "alpha", "channels first", "several"],
)
def test_any_other_array_is_refused_and_told_what_it_is(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8") as caught:
        encoded(pixels)
    assert str(pixels.dtype) in str(caught.value)
    assert str(list(pixels.shape)) in str(caught.value)


@pytest.mark.parametrize("empty", [PIXELS[:0], PIXELS[:, :0], Image.new("RGB", (0, 5))])
def test_an_empty_picture_is_refused(empty: np.ndarray | Image.Image) -> None:
    with pytest.raises(ValueError, match="empty"):
        encoded(empty)


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_numbers_that_are_no_brightness_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode {mode}"):
        encoded(Image.new(mode, (2, 2)))


@pytest.mark.parametrize("thing", [None, 7, 1.5, {"image": 1}, open])
def test_what_is_no_picture_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match=type(thing).__name__):
        encoded(thing)  # type: ignore[arg-type]
