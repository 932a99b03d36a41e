"""Images made to hurt, decoded as the service decodes them."""

import numpy as np
import pytest
from PIL import Image

from service.errors import ServiceError
from service.images.decode import decode
from service.images.formats import FORMATS
from tests.doubles import encode
from tests.hostile_images import Hostile, corpus, small


def outcome_of(data: bytes) -> tuple[int, str | None]:
    try:
        decode(data, 50_000_000, smallest=64)
    except ServiceError as error:
        return error.status, error.reason
    return 200, None


@pytest.mark.parametrize("hostile", corpus(), ids=lambda hostile: hostile.name)
def test_it_is_answered_or_refused_as_documented(hostile: Hostile) -> None:
    status, _ = outcome_of(hostile.data)
    assert status in hostile.expected


def test_no_decoder_runs_but_those_of_the_accepted_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(*_: object) -> None:
        raise AssertionError("a decoder that nobody asked for")

    Image.init()
    for format_ in Image.OPEN.keys() - {*FORMATS, "HEIF"}:
        monkeypatch.setitem(Image.OPEN, format_, (must_not_run, lambda _: True))
    for hostile in corpus():
        status, _ = outcome_of(hostile.data)
        assert status in hostile.expected, hostile.name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("png 50000x50000", "pixels"),
        ("gif disposes of 65535x65535", "pixels"),
        ("jpeg of 5000 scans", "scans"),
        ("jpeg of 60 scans over 49 million pixels", "scans"),
        ("jpeg with a million comments", "pieces"),
        ("png of a million chunks", "pieces"),
        ("gif of four million comments", "pieces"),
        ("png of a byte a chunk", "pieces"),
        ("bmp of runs over 50 million pixels", "compression"),
        ("tiff compressed by zstd", "compression"),
    ],
)
def test_what_is_refused_says_why(name: str, reason: str) -> None:
    (data,) = [hostile.data for hostile in corpus() if hostile.name == name]
    assert outcome_of(data)[1] == reason


@pytest.mark.parametrize(
    ("format_", "mode", "stored_as", "alpha"),
    [
        ("PNG", "1", "bilevel", False),
        ("PNG", "L", "gray", False),
        ("PNG", "LA", "gray", True),
        ("PNG", "I;16", "gray16", False),
        ("PNG", "P", "palette", False),
        ("PNG", "RGB", "rgb", False),
        ("PNG", "RGBA", "rgb", True),
        ("JPEG", "CMYK", "cmyk", False),
        ("JPEG", "YCbCr", "rgb", False),  # as nearly every JPEG is stored
    ],
)
def test_the_answer_says_what_was_converted(format_: str, mode: str, stored_as: str, alpha: bool) -> None:
    image = Image.fromarray(np.full((8, 8), 40_000, np.uint16)) if mode == "I;16" else small(mode)
    info = decode(encode(image, format_), 10_000).info
    assert (info.stored_as, info.alpha_flattened, info.icc_ignored) == (stored_as, alpha, False)


def test_the_answer_says_that_a_profile_was_ignored() -> None:
    plain, profiled = (encode(small(), "PNG", icc_profile=profile) for profile in (None, b"a profile"))
    (rgb, info, _), (same, ignored, _) = decode(plain, 10_000), decode(profiled, 10_000)
    assert (info.icc_ignored, ignored.icc_ignored) == (False, True)
    assert np.array_equal(np.asarray(rgb), np.asarray(same))
