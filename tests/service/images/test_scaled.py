"""JPEGs decoded at a fraction of their size: the parity gate, and everything that must not change with it."""

import io
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from benchmarks.photograph import photograph
from service.bundles.manifest import Preprocessing
from service.errors import ImageTooLarge, InvalidImage, ServiceError, UnsupportedImage
from service.images.decode import decode
from service.images.preprocess import Preprocessor, preparation
from tests.doubles import encode

LIMIT = 10_000_000
BOUND = 1.0  # of 255: mean absolute difference of the prepared pixels
large_photograph = cache(photograph)  # which takes most of a second to draw


def spec(resize_short: int = 256, crop: int = 224, interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(
        resize_short=resize_short, interpolation=interpolation, crop=crop, mean=(0.5,) * 3, std=(0.5,) * 3
    )


def difference(data: bytes, preprocessing: Preprocessing) -> float:
    """Of the pixels that the model sees from those of the full decode, which must be another image."""
    full, _, area = decode(data, LIMIT)
    assert area == (0, 0, *full.size)
    scaled = decode(data, LIMIT, smallest=2 * preprocessing.resize_short).image
    assert max(scaled.size) < max(full.size)
    pixels, _ = preparation(preprocessing, LIMIT)(data)
    return float(np.abs(pixels.astype(int) - Preprocessor(preprocessing)(full)).mean())


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return large_photograph(1601, 1203)


@pytest.mark.parametrize("quality", [60, 85, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_parity_by_quality_and_subsampling(photo: Image.Image, quality: int, subsampling: str) -> None:
    assert difference(encode(photo, "JPEG", quality=quality, subsampling=subsampling), spec()) < BOUND


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_parity_by_filter(photo: Image.Image, interpolation: str) -> None:
    assert difference(encode(photo, "JPEG", quality=90), spec(interpolation=interpolation)) < BOUND


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_parity_of_gray_and_cmyk(photo: Image.Image, mode: str) -> None:
    assert difference(encode(photo.convert(mode), "JPEG", quality=90), spec()) < BOUND


def test_parity_of_a_progressive_jpeg(photo: Image.Image) -> None:
    assert difference(encode(photo, "JPEG", quality=90, progressive=True), spec()) < BOUND


@pytest.mark.parametrize("resize_short", [32, 64, 128])
def test_parity_by_scale(photo: Image.Image, resize_short: int) -> None:
    assert difference(encode(photo, "JPEG", quality=90), spec(resize_short, resize_short)) < BOUND


@pytest.mark.parametrize("size", [(1601, 1203), (1607, 1201), (1203, 1606)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_edge_that_the_scale_cuts_is_found_whichever_way_up(size: tuple[int, int], orientation: int) -> None:
    """At 1/8 of 1607 pixels the last of 201 is one eighth beyond the image: a crop that ignores it is off."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(large_photograph(*size), "JPEG", quality=90, exif=exif)
    assert difference(data, spec(64, 64)) < BOUND


@pytest.mark.parametrize(
    ("size", "smallest", "decoded"),
    [
        ((100, 80), 80, (100, 80)),
        ((100, 80), 200, (100, 80)),
        ((100, 80), 41, (100, 80)),
        ((100, 80), 40, (50, 40)),
        ((101, 79), 39, (51, 40)),
        ((79, 101), 20, (40, 51)),
        ((101, 81), 20, (26, 21)),
        ((101, 81), 10, (13, 11)),
        ((101, 81), 1, (13, 11)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_the_scale_leaves_the_smallest_side_asked_for(
    size: tuple[int, int], smallest: int, decoded: tuple[int, int]
) -> None:
    image, info, area = decode(encode(Image.new("RGB", size), "JPEG"), LIMIT, smallest=smallest)
    assert image.size == decoded
    assert (info.width, info.height) == size
    scale = max(1, round(size[0] / decoded[0]))
    assert area == (0, 0, size[0] / scale, size[1] / scale)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_clients_size_is_told(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, info, area = decode(encode(Image.new("RGB", (101, 81)), "JPEG", exif=exif), LIMIT, smallest=20)
    swapped = orientation >= 5
    assert (info.width, info.height) == ((81, 101) if swapped else (101, 81))
    assert image.size == ((21, 26) if swapped else (26, 21))
    assert (area[2] - area[0], area[3] - area[1]) == ((20.25, 25.25) if swapped else (25.25, 20.25))
    assert 0 <= area[0] < area[2] <= image.width
    assert 0 <= area[1] < area[3] <= image.height


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_are_decoded_in_full(format_: str) -> None:
    image, _, area = decode(encode(Image.new("RGB", (100, 80)), format_), LIMIT, smallest=10)
    assert image.size == (100, 80)
    assert area == (0, 0, 100, 80)


def test_the_limit_goes_by_the_clients_size() -> None:
    data = encode(Image.new("RGB", (100, 80)), "JPEG")
    assert decode(data, 8000, smallest=10).info.width == 100
    with pytest.raises(ImageTooLarge):
        decode(data, 7999, smallest=10)


def outcome(data: bytes, smallest: int | None) -> type[ServiceError] | None:
    """The error that decoding ends in."""
    try:
        decode(data, LIMIT, smallest=smallest)
    except ServiceError as error:
        return type(error)
    return None


def plain_verdict(data: bytes) -> bool:
    """Whether Pillow alone shows the image."""
    try:
        Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB")
    except Exception:
        return False
    return True


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_rows": 1}])
def test_truncated_anywhere_the_verdict_is_the_same_at_every_scale(options: dict[str, object]) -> None:
    data = encode(photograph(120, 96), "JPEG", **options)
    for kept in [*range(4, 700, 13), *range(700, len(data), 97), *range(len(data) - 20, len(data) + 1)]:
        outcomes = [outcome(data[:kept], smallest) for smallest in (None, 40, 10)]
        assert outcomes[0] in (None, InvalidImage)
        assert outcomes[0] is None or not plain_verdict(data[:kept])
        assert all(one == other for one, other in pairwise(outcomes)), kept


def test_damaged_anywhere_the_verdict_is_pillows() -> None:
    random = np.random.default_rng(0)
    data = encode(photograph(120, 96), "JPEG")
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        damaged[random.integers(3, len(data))] ^= 1 << random.integers(8)
        found = [outcome(bytes(damaged), smallest) for smallest in (None, 40, 10)]
        if not {ImageTooLarge, UnsupportedImage} & {*found}:
            assert found[0] is None or not plain_verdict(bytes(damaged))
        assert all(one == other for one, other in pairwise(found))
        outcomes.add(found[0])
    assert {None, InvalidImage} <= outcomes <= {None, InvalidImage, ImageTooLarge, UnsupportedImage}
