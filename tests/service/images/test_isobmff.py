"""AVIF, read by libavif by way of imagecodecs as well, and HEIC; and files of a hundred thousand items."""

import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from benchmarks.photograph import photograph
from service.errors import ImageTooLarge, InvalidImage
from service.images import isobmff
from service.images.decode import decode
from service.images.formats import FORMATS
from tests.doubles import encode
from tests.service.images.expected import LIMIT, gray, judge, on_white

PHOTO = np.asarray(photograph(64, 48))
ALPHA = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)[..., None] * 2

HEIF = [
    pytest.param(name, marks=pytest.mark.skipif(name not in FORMATS, reason="no decoder")) for name in ("AVIF", "HEIC")
]


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", ["gray", "rgb", "rgba"])
def test_avif_as_another_reader_sees_it(channels: str, bits: int) -> None:
    samples = {"gray": PHOTO[..., 1], "rgb": PHOTO, "rgba": np.dstack([PHOTO, ALPHA])}[channels]
    if bits > 8:
        samples = samples.astype(np.uint16) << bits - 8
    data = imagecodecs.avif_encode(samples, level=90, bitspersample=bits)
    read = imagecodecs.avif_decode(data) / (2**bits - 1)
    picture = gray(read) if read.ndim == 2 else read[..., :3]
    if channels == "rgba":
        picture = on_white(picture, read[..., 3])
    # Of more than 8 bits, libavif's two ways from YCbCr to RGB differ by up to 3 levels of 255.
    assert judge(data, picture, within=1 if bits == 8 else 3) == "right"
    assert np.abs(picture - (gray(PHOTO[..., 1]) if channels == "gray" else PHOTO) / 255).mean() < (
        1 if channels == "rgba" else 0.02
    )


@pytest.mark.skipif("HEIC" not in FORMATS, reason="pillow-heif is not installed")
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_heic(mode: str) -> None:
    image = Image.fromarray(PHOTO).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(ALPHA[..., 0]))
    image_, info, _ = decode(encode(image, "HEIC", quality=-1, chroma=444), LIMIT)
    seen = on_white(PHOTO / 255, ALPHA[..., 0] / 255) if mode == "RGBA" else np.asarray(image.convert("RGB")) / 255
    assert np.abs(np.asarray(image_) / 255 - seen).max() < 4 / 255
    assert (info.format, info.width, info.height, info.alpha_flattened) == ("HEIC", 64, 48, mode == "RGBA")


def inner(data: bytes, *path: bytes) -> tuple[int, int]:
    """Where the box at `path` is: its start, and its end."""
    start, end = 0, len(data)
    for kind in path:
        while data[start + 4 : start + 8] != kind:
            start += struct.unpack_from(">I", data, start)[0]
        end = start + struct.unpack_from(">I", data, start)[0]
        header = {b"meta": 12, b"iref": 12, b"iinf": 14}.get(kind, 8)
        start += header if kind != path[-1] else 0
    return start, end


def grown(data: bytes, path: tuple[bytes, ...], more: bytes) -> bytes:
    """With `more` at the end of the box at `path`, and every place in iloc, each of one extent, moved by that."""
    for depth in range(1, len(path) + 1):
        start, end = inner(data, *path[:depth])
        data = data[:start] + struct.pack(">I", end - start + len(more)) + data[start + 4 :]
        if depth == len(path):
            data = data[:end] + more + data[end:]
    start, end = inner(data, b"meta", b"iloc")
    for at in range(start + 16, end, (end - start - 16) // struct.unpack_from(">H", data, start + 14)[0]):
        place = at + (end - start - 16) // struct.unpack_from(">H", data, start + 14)[0] - 8
        (offset,) = struct.unpack_from(">I", data, place)
        data = data[:place] + struct.pack(">I", offset + len(more)) + data[place + 4 :]
    return data


def transformed(data: bytes, prop: bytes) -> bytes:
    """With one more property, which the first item has."""
    start, end = inner(data, b"meta", b"iprp", b"ipco")
    properties, at = 0, start + 8
    while at < end:
        at, properties = at + struct.unpack_from(">I", data, at)[0], properties + 1
    turned = grown(data, (b"meta", b"iprp", b"ipco"), prop)
    start, end = inner(turned, b"meta", b"iprp", b"ipma")
    count = turned[start + 18]
    turned = turned[: start + 18] + bytes([count + 1]) + turned[start + 19 :]
    return grown(turned, (b"meta", b"iprp", b"ipma"), bytes([0x80 | properties + 1]))


@pytest.mark.parametrize("format_", HEIF)
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_rotation_that_the_container_tells(format_: str, quarters: int) -> None:
    data = encode(Image.fromarray(PHOTO), format_)
    plain = np.asarray(decode(data, LIMIT).image)
    turned = transformed(data, struct.pack(">I4sB", 9, b"irot", quarters))
    image, info, _ = decode(turned, LIMIT)
    assert np.array_equal(np.asarray(image), np.rot90(plain, quarters))
    assert info.orientation_applied == (quarters > 0)
    assert (info.width, info.height) == image.size


@pytest.mark.parametrize("format_", HEIF)
def test_a_crop_that_the_container_tells_is_applied_or_refused(format_: str) -> None:
    data = encode(Image.fromarray(PHOTO), format_)
    plain = np.asarray(decode(data, LIMIT).image) / 255
    cropped = transformed(data, struct.pack(">I4s8i", 40, b"clap", 32, 1, 24, 1, 0, 1, 0, 1))
    told = judge(cropped, plain[12:36, 16:48])
    assert told == "right" if format_ == "HEIC" else "crop" in told


@pytest.mark.parametrize("format_", HEIF)
def test_metadata_that_is_damaged_or_missing_changes_nothing(format_: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker" * 20
    data = encode(Image.fromarray(PHOTO), format_, exif=exif, xmp=b"<x:xmpmeta>" + b"x" * 500)
    picture = np.asarray(decode(encode(Image.fromarray(PHOTO), format_), LIMIT).image) / 255
    assert judge(data, picture) == "right"
    start, end = data.index(b"maker") - 8, data.rindex(b"xxxx")
    for at in range(start, end, 50):
        if b"maker" in data[at : at + 5] or b"xxxxx" in data[at : at + 5]:
            assert judge(data[:at] + b"\xff\0\x80\x7f" + data[at + 4 :], picture) == "right"
    if format_ == "HEIC":  # which has its metadata last
        for cut in (1, 100, 500):
            assert judge(data[:-cut], picture) == "right"
    with pytest.raises(InvalidImage, match=format_):
        decode(data[: len(data) - 1200], LIMIT)


def test_an_avif_that_lacks_pixels_says_how_many() -> None:
    with pytest.raises(InvalidImage, match=r"of \d+ bytes of pixels, 7 are missing"):
        decode(encode(Image.fromarray(PHOTO), "AVIF")[:-7], LIMIT)


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def many(format_: str, what: str, count: int) -> bytes:
    """A file of `count` of something, of which one each would do."""
    brand = b"avif" if format_ == "AVIF" else b"heic"
    number = struct.Struct(">I")
    items = count if what == "items" else 1
    infos = [box(b"infe", b"\3\0\0\0", number.pack(i), b"\0\0av01\0") for i in range(items)]
    places = count if what == "places" else 1
    locations = b"".join(number.pack(i) + bytes(4) + b"\0\1" + bytes(8) for i in range(places))
    extents = count if what == "extents" else 0
    properties = [box(b"free")] * (count if what == "properties" else 1)
    associations = count if what == "associations" else 1
    references = box(b"cdsc", b"\0\1", struct.pack(">H", 1), b"\0\1") * (count if what == "references" else 1)
    meta = box(
        b"meta", bytes(4),
        box(b"hdlr", bytes(8), b"pict", bytes(13)),
        box(b"pitm", bytes(4), b"\0\1"),
        box(b"iloc", b"\2\0\0\0", b"\x44\0", number.pack(places), locations) if not extents else
        box(b"iloc", b"\2\0\0\0", b"\x44\0", number.pack(1), bytes(8), struct.pack(">H", extents), bytes(8 * extents)),
        box(b"iinf", b"\1\0\0\0", number.pack(items), *infos),
        box(b"iref", bytes(4), references),
        box(
            b"iprp", box(b"ipco", *properties),
            box(b"ipma", bytes(4), number.pack(associations), b"\0\1\1\1" * associations),
        ),
    )  # fmt: skip
    return box(b"ftyp", brand, bytes(4), b"mif1", brand) + meta + box(b"mdat", bytes(100))


@pytest.mark.parametrize("format_", HEIF)
@pytest.mark.parametrize("what", ["items", "places", "extents", "properties", "associations", "references"])
def test_files_of_a_hundred_thousand_items_are_refused_before_a_decoder_opens_them(
    format_: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("a decoder has seen it")

    monkeypatch.setattr(Image, "open", must_not_run)
    for count in (10_000, 60_000):
        with pytest.raises(ImageTooLarge) as refused:
            decode(many(format_, what, count), LIMIT)
        assert refused.value.reason == "pieces"


@pytest.mark.skipif("HEIC" not in FORMATS, reason="pillow-heif is not installed")
def test_a_heic_that_holds_more_than_it_announces() -> None:
    data = bytearray(encode(Image.new("RGB", (2000, 2000)), "HEIC"))
    size = data.find(b"ispe") + 8
    data[size : size + 8] = struct.pack(">II", 16, 16)
    with pytest.raises(ImageTooLarge, match="more than it announces"):
        decode(bytes(data), LIMIT)


def derived(sizes: list[int], made_of: dict[int, list[int]], turns: int = 0) -> bytes:
    """A HEIC of items from 1 on, of which those that are made of others are overlays; `turns` are those of item 1.

    Items have squares of these `sizes`.
    """
    items = range(1, len(sizes) + 1)
    infos = [
        box(b"infe", b"\2\0\0\0", struct.pack(">HH", item, 0), b"iovl\0" if item in made_of else b"hvc1\0")
        for item in items
    ]
    squares = [box(b"ispe", bytes(4), struct.pack(">II", size, size)) for size in sizes]
    turn = len(sizes) + 1
    maps = [struct.pack(">HBB", item, 1, item) for item in items[1:]]
    references = [
        box(b"dimg", struct.pack(f">HH{len(parts)}H", item, len(parts), *parts)) for item, parts in made_of.items()
    ]
    meta = box(
        b"meta", bytes(4),
        box(b"pitm", bytes(4), b"\0\1"),
        box(b"iinf", bytes(4), struct.pack(">H", len(infos)), *infos),
        box(b"iref", bytes(4), *references),
        box(
            b"iprp", box(b"ipco", *squares, box(b"irot", b"\1")),
            box(b"ipma", bytes(4), struct.pack(">IHB", len(sizes), 1, 1 + turns), bytes([1, *[turn] * turns]), *maps),
        ),
    )  # fmt: skip
    return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta + box(b"mdat", bytes(100))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (derived([4000, 4000], {1: [2] * 100}), "pixels"),  # one item again and again
        (derived([640, *[4000] * 100], {1: list(range(2, 102))}), "pixels"),  # each larger than the whole
        (derived([64] * 4, {1: [2] * 100, 2: [3] * 100, 3: [4] * 100}), "pixels"),  # a million in all
        (derived([64] * 100, {item: [item + 1] for item in range(1, 100)}), "pieces"),
        (derived([64] * 2, {1: [2], 2: [1]}), "pieces"),
        (derived([64], {}, turns=250), "pieces"),
        (derived([64], {}, turns=4), "pieces"),
    ],
    ids=["repeated", "large", "tree", "chain", "circle", "turned", "turned a little"],
)
def test_a_heic_whose_parts_are_far_more_than_the_whole_is_refused_before_a_decoder_opens_it(
    data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("a decoder has seen it")

    monkeypatch.setattr(Image, "open", must_not_run)
    with pytest.raises(ImageTooLarge) as refused:
        isobmff.strip(data, "HEIC", LIMIT)
    assert refused.value.reason == reason


def test_what_is_made_of_its_tiles_and_turned_as_a_camera_does_is_not() -> None:
    tiles = [512] * 48
    for data in (derived([3500, *tiles], {1: list(range(2, 50))}, turns=1), derived([64], {}, turns=3)):
        assert isobmff.strip(data, "HEIC", 50_000_000).turned


@pytest.mark.parametrize("format_", HEIF)
@pytest.mark.parametrize("path", [(b"meta",), (b"meta", b"iinf"), (b"meta", b"iprp"), (b"meta", b"iprp", b"ipco")])
def test_a_box_that_there_are_two_of_is_refused(format_: str, path: tuple[bytes, ...]) -> None:
    """Decoders differ in which they take."""
    data = encode(Image.fromarray(PHOTO), format_)
    start, end = inner(data, *path)
    with pytest.raises(InvalidImage):
        decode(data + data[start:end] if len(path) == 1 else grown(data, path[:-1], data[start:end]), LIMIT)
