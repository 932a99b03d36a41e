"""Images of several strips, and memory that runs out."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from service.images import rgb
from service.images.decode import decode
from tests.service.images.expected import LIMIT, gray, judge, on_white
from tests.service.images.test_png import GRAY, GRAY_ALPHA, PALETTE, RGB, RGB_ALPHA, chunk, png

HEIGHT, WIDTH = 500, 401


def test_images_are_larger_than_a_strip() -> None:
    assert HEIGHT * WIDTH > 3 * rgb._STRIP


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha(depth: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**depth, (HEIGHT, WIDTH, 4))
    level = samples / (2**depth - 1)
    assert judge(png(samples, RGB_ALPHA, depth), on_white(level[..., :3], level[..., 3])) == "right"
    assert judge(png(samples[..., :2], GRAY_ALPHA, depth), on_white(gray(level[..., 0]), level[..., 1])) == "right"


def test_transparent_colours_and_palettes() -> None:
    samples = np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH, 1))
    clear = (samples[..., 0] != 2).astype(float)
    for depth in (2, 8, 16):
        data = png(samples, GRAY, depth, before=chunk(b"tRNS", b"\0\2"))
        assert judge(data, on_white(gray(samples[..., 0] / (2**depth - 1)), clear)) == "right"
    colours = np.random.default_rng(1).integers(0, 256, (4, 3), np.uint8)
    data = png(samples, PALETTE, 2, before=chunk(b"PLTE", colours.tobytes()) + chunk(b"tRNS", b"\xff\xff\0"))
    assert judge(data, on_white(colours[samples[..., 0]] / 255, clear)) == "right"
    wide = np.random.default_rng(2).integers(0, 2, (HEIGHT, WIDTH, 3)) + 700
    clear = (wide != [700, 701, 700]).any(axis=-1).astype(float)
    data = png(wide, RGB, 16, before=chunk(b"tRNS", np.array([700, 701, 700], ">u2").tobytes()))
    assert judge(data, on_white(wide / 65535, clear)) == "right"


@pytest.mark.parametrize(("photometric", "channels"), [("rgb", 4), ("separated", 4), ("minisblack", 2)])
def test_planes(photometric: str, channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (channels, HEIGHT, WIDTH), np.uint16)
    level = np.moveaxis(samples, 0, 2) / 65535
    extra = ["unassalpha"] if photometric != "separated" else None
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric=photometric, planarconfig="separate", extrasamples=extra)
    picture = {
        "rgb": lambda: on_white(level[..., :3], level[..., 3]),
        "separated": lambda: (1 - level[..., :3]) * (1 - level[..., 3:]),
        "minisblack": lambda: on_white(gray(level[..., 0]), level[..., 1]),
    }[photometric]()
    assert judge(file.getvalue(), picture) == "right"


def test_memory_that_runs_out_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(MemoryError):
        decode(png(np.zeros((4, 4, 1), int), GRAY, 8), LIMIT)
