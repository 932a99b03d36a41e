"""Fields are where a decoder finds them: set to another number, the image has another size."""

import io
import warnings

import pytest
from PIL import Image

from benchmarks.robustness.fields import fields
from tests.doubles import encode

WIDTH = 48


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_the_width_is_among_them(format_: str) -> None:
    data = encode(Image.new("RGB", (WIDTH, 32)), format_)
    widths = []
    for at, size, order in fields(data):
        if int.from_bytes(data[at : at + size], order) == WIDTH:
            changed = data[:at] + (WIDTH + 8).to_bytes(size, order) + data[at + size :]
            with warnings.catch_warnings(action="ignore"):
                try:
                    widths.append(Image.open(io.BytesIO(changed)).width)
                except (OSError, SyntaxError):  # a checksum, of a PNG
                    widths.append(WIDTH + 8)
    assert WIDTH + 8 in widths


@pytest.mark.parametrize("format_", ["WEBP", "AVIF"])
def test_a_box_and_a_chunk_have_their_length_among_them(format_: str) -> None:
    data = encode(Image.new("RGB", (WIDTH, 32)), format_)
    numbers = [int.from_bytes(data[at : at + size], order) for at, size, order in fields(data)]
    assert len(data) - 8 in numbers if format_ == "WEBP" else WIDTH in numbers


def test_no_field_lies_beyond_the_end_however_short_the_file() -> None:
    for format_ in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"):
        data = encode(Image.new("RGB", (WIDTH, 32)), format_)
        for length in range(0, 80):
            assert all(0 <= at <= length - size for at, size, _ in fields(data[:length]))
    assert fields(b"no image") == []
