"""TIFF: every layout that tifffile writes, which shares no code with Pillow or libtiff; and what it cannot."""

import io
import struct
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image

from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.images.decode import decode
from service.images.tiff import strip
from tests.doubles import encode
from tests.hostile_images import tiff
from tests.service.images.expected import LIMIT, Picture, gray, judge, on_white

HEIGHT, WIDTH = 19, 21
CHANNELS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4, "palette": 1}


def picture_of(samples: np.ndarray, photometric: str, extra: str | None, bits: int, colours: np.ndarray) -> Picture:
    """By TIFF 6.0, sections 4 to 6, 16 and 18."""
    level = samples / (2**bits - 1)
    match photometric:
        case "minisblack":
            colour = gray(level[..., 0])
        case "miniswhite":
            colour = gray(1 - level[..., 0])
        case "rgb":
            colour = level[..., :3]
        case "separated":
            colour = (1 - level[..., :3]) * (1 - level[..., 3:4])
        case _:
            colour = colours.T[samples[..., 0]] / 65535
    if extra == "unassalpha":
        return on_white(colour, level[..., -1])
    return colour + 1 - level[..., -1:] if extra == "assocalpha" else colour


def matrix(bits: int, photometric: str) -> Iterator[tuple[str, bytes, Picture]]:
    random = np.random.default_rng(bits)
    colours = random.integers(0, 256, (3, 2**bits)).astype(np.uint16) * 257
    for extra, planar, order, tile, compression, predictor in product(
        (None, "unspecified", "assocalpha", "unassalpha"),
        ("contig", "separate"),
        "<>",
        (None, (16, 16)),
        (None, "lzw", "deflate", "packbits"),
        (False, True),
    ):
        count = CHANNELS[photometric] + (extra is not None)
        if (count == 1 and planar == "separate") or (predictor and compression in (None, "packbits")):
            continue
        samples = random.integers(0, 2**bits, (HEIGHT, WIDTH, count), np.uint8 if bits <= 8 else np.uint16)
        if extra == "assocalpha":
            samples[..., :-1] = samples[..., :-1].astype(np.uint32) * samples[..., -1:] // (2**bits - 1)
        options: dict[str, object] = {"bitspersample": bits} if bits not in (8, 16) else {}
        if count > 1:
            options |= {"planarconfig": planar, "extrasamples": [extra] if extra else None}
        if photometric == "palette":
            options["colormap"] = colours
        stored = samples[..., 0] if count == 1 else np.moveaxis(samples, 2, 0) if planar == "separate" else samples
        file = io.BytesIO()
        try:
            tifffile.imwrite(
                file, np.ascontiguousarray(stored), photometric=photometric, byteorder=order, tile=tile,
                compression=compression, predictor=predictor or None, **options,
            )  # fmt: skip
        except (ValueError, NotImplementedError, KeyError):
            continue  # tifffile has no such layout
        name = f"{extra} {planar} {order} tile={tile} {compression} predictor={predictor}"
        yield name, file.getvalue(), picture_of(samples, photometric, extra, bits, colours)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", CHANNELS)
def test_every_layout_is_right_or_refused(bits: int, photometric: str) -> None:
    verdicts = {name: judge(data, picture) for name, data, picture in matrix(bits, photometric)}
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "right" and "TIFF" not in verdict} == {}
    served = {name for name, verdict in verdicts.items() if verdict == "right"}
    if bits in (8, 16) and photometric in ("rgb", "separated"):
        assert {
            name for name in verdicts if name.startswith(("None", "unspecified contig") if bits == 8 else "None")
        } <= served
        assert photometric != "rgb" or len(served) == len(verdicts)
    if bits in (1, 2, 4, 8, 16) and photometric.startswith("minis"):
        assert {name for name in verdicts if name.startswith("None")} <= served
    if photometric == "palette" and bits == 8:
        assert len(served) == len(verdicts)


def test_planes_of_16_bits_are_read_as_such() -> None:
    for photometric, extra in (("rgb", None), ("rgb", "unassalpha"), ("separated", None), ("minisblack", "unassalpha")):
        files = [file for file in matrix(16, photometric) if file[0].startswith(f"{extra} separate")]
        assert len(files) >= 20
        assert {judge(data, picture) for _, data, picture in files} == {"right"}


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (np.zeros((4, 4), np.float32), "floating-point"),
        (np.zeros((4, 4, 3), np.float32), "floating-point"),
        (np.zeros((4, 4), np.float16), "floating-point"),
        (np.zeros((4, 4), np.int8), "signed"),
        (np.zeros((4, 4), np.int16), "signed"),
        (np.zeros((4, 4), np.int32), "signed"),
        (np.zeros((4, 4), np.uint32), "gray TIFF of 32 bits"),
        (np.zeros((4, 4, 3), np.uint32), "RGB TIFF of 32"),
        (np.zeros((4, 4), np.complex64), "complex"),
    ],
    ids=str,
)
def test_samples_without_a_known_white_are_refused_by_name(samples: np.ndarray, told: str) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb" if samples.ndim == 3 else "minisblack")
    with pytest.raises(UnsupportedImage, match=told) as refused:
        decode(file.getvalue(), LIMIT)
    assert refused.value.reason == "samples"


LEVELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def small(tags: dict[int, tuple[int, ...]], pixels: bytes = LEVELS.tobytes(), order: str = "<") -> bytes:
    """A TIFF of 4x3 in one strip, gray of 8 bits where `tags` say nothing else; an empty value leaves a tag out."""
    values = {
        256: (4,),
        257: (3,),
        258: (8,),
        259: (1,),
        262: (1,),
        273: (8,),
        277: (1,),
        278: (3,),
        279: (len(pixels),),
    }
    values = {tag: value for tag, value in sorted({**values, **tags}.items()) if value}
    directory = 8 + len(pixels) + len(pixels) % 2
    entries, outside = b"", b""
    for tag, value in values.items():
        packed = struct.pack(f"{order}{len(value)}H", *value)
        if len(packed) > 4:
            place = directory + 2 + 12 * len(values) + 4 + len(outside)
            packed, outside = struct.pack(order + "I", place), outside + packed
        entries += struct.pack(order + "HHI", tag, 3, len(value)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)
    return head + pixels + bytes(len(pixels) % 2) + struct.pack(order + "H", len(values)) + entries + bytes(4) + outside


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_planes_and_of_pixels(order: str, orientation: int) -> None:
    for data in (
        small({274: (orientation,)}, order=order),
        small({274: (orientation,), 258: (8,) * 3, 262: (2,), 277: (3,), 273: (8, 20, 32), 279: (12,) * 3, 284: (2,)},
              LEVELS.tobytes() * 3, order),
    ):  # fmt: skip
        image, info, _ = decode(data, LIMIT)
        upright = {
            1: LEVELS, 2: LEVELS[:, ::-1], 3: LEVELS[::-1, ::-1], 4: LEVELS[::-1],
            5: LEVELS.T, 6: LEVELS[::-1].T, 7: LEVELS[::-1, ::-1].T, 8: LEVELS.T[::-1],
        }[orientation]  # fmt: skip
        assert np.asarray(image)[..., 0].tolist() == upright.tolist()
        assert info.orientation_applied == (orientation > 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1])
def test_the_order_of_bits_in_a_byte(bits: int, photometric: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**bits, (3, 4))
    rows = (samples[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(3, -1)
    level = samples / (2**bits - 1)
    for fill_order, order in ((1, "big"), (2, "little")):
        pixels = np.packbits(rows, axis=1, bitorder=order).tobytes()
        data = small({258: (bits,), 262: (photometric,), 266: (fill_order,)}, pixels)
        assert judge(data, gray(level if photometric else 1 - level)) == "right"


@pytest.mark.parametrize(("bits", "photometric", "channels"), [(8, 2, 3), (8, 2, 4), (8, 5, 4), (16, 2, 3), (16, 5, 4)])
def test_the_order_of_bits_of_several_channels_and_of_16_is_right_or_refused(
    bits: int, photometric: int, channels: int
) -> None:
    tags = {258: (bits,) * channels, 262: (photometric,), 266: (2,), 277: (channels,)}
    tags |= {338: (2,)} if (photometric, channels) == (2, 4) else {}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, channels * bits // 8), np.uint8)
    stored = np.packbits(np.unpackbits(pixels), bitorder="little").tobytes()
    told = judge(small(tags, stored), pixels / 255)
    assert told == "right" if (bits, channels) == (8, 3) else "the lowest first" in told


@pytest.mark.parametrize("width", [16, 18, 33])
@pytest.mark.parametrize("height", [16, 17, 18])
def test_subsampled_colours_are_right_or_refused(width: int, height: int) -> None:
    verdicts = {}
    for across, down in product((1, 2, 4), (1, 2, 4)):
        columns, rows = -(-width // across), -(-height // down)
        levels = np.random.default_rng(0).integers(0, 256, (rows * down, columns * across), np.uint8)
        units = levels.reshape(rows, down, columns, across).swapaxes(1, 2).reshape(rows, columns, -1)
        pixels = np.dstack([units, np.full((rows, columns, 2), 128, np.uint8)]).tobytes()
        tags = {256: (width,), 257: (height,), 258: (8,) * 3, 262: (6,), 277: (3,), 278: (height,), 530: (across, down)}
        verdicts[across, down] = judge(small(tags, pixels), gray(levels[:height, :width] / 255))
    refused = {
        pair: f"a YCbCr TIFF of 8+8+8 bits, subsampled {pair[0]} by {pair[1]}, is not accepted" for pair in verdicts
    }
    assert verdicts == {pair: "right" if pair[1] < 4 else refused[pair] for pair in verdicts}


@pytest.mark.parametrize(
    ("number", "name"), [(6, "old-style JPEG"), (50000, "Zstandard"), (50001, "WebP"), (60000, "number 60000")]
)
def test_a_compression_is_refused_by_its_name(number: int, name: str) -> None:
    with pytest.raises(UnsupportedImage, match=f"TIFF compression {name} is not accepted"):
        decode(small({259: (number,)}), LIMIT)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(bits: int) -> None:
    random = np.random.default_rng(bits)
    colours, samples = random.integers(0, 2**16, (3, 2**bits)), random.integers(0, 2**bits, (3, 4))
    rows = (samples[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(3, -1)
    data = small({258: (bits,), 262: (3,), 320: tuple(colours.ravel())}, np.packbits(rows, axis=1).tobytes())
    assert judge(data, colours.T[samples] / 65535) == "right"


def test_a_palette_of_8_bits_an_entry_where_16_are_due() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256))
    data = small({262: (3,), 320: tuple(colours.ravel())})
    assert judge(data, colours.T[LEVELS] / 255) == "right"


def test_a_fourth_channel_that_nothing_is_said_of_decides_nothing_or_is_refused() -> None:
    tags = {258: (8,) * 4, 262: (2,), 277: (4,)}
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    opaque = np.dstack([colours, np.full((3, 4), 255, np.uint8)])
    assert judge(small(tags, opaque.tobytes()), colours / 255) == "right"
    assert "does not say" in judge(small(tags, np.dstack([colours, LEVELS]).tobytes()), colours / 255)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({262: (4,)}, "transparency mask"),
        ({262: (8,), 258: (8,) * 3, 277: (3,)}, r"CIE L\*a\*b\* TIFF"),
        ({262: (32803,)}, "camera raw"),
        ({254: (1,)}, "thumbnails alone"),
        ({262: (5,), 258: (8,) * 4, 277: (4,), 332: (2,)}, "inks other than CMYK"),
        ({262: (5,), 258: (8,) * 5, 277: (5,), 338: (2,)}, "CMYK TIFF of 8.8.8.8.8 bits with 1 extra"),
        ({258: (5, 6, 5), 262: (2,), 277: (3,)}, r"RGB TIFF of 5\+6\+5 bits"),
        ({262: (), 277: (2,)}, "TIFF of 8"),
    ],
    ids=str,
)
def test_what_is_refused_says_what_it_is(tags: dict[int, tuple[int, ...]], told: str) -> None:
    with pytest.raises(UnsupportedImage, match=told):
        decode(small(tags, bytes(60)), LIMIT)


def test_a_thumbnail_that_comes_first_is_not_the_image() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as pages:
        pages.write(np.zeros((2, 2, 3), np.uint8), photometric="rgb", subfiletype=1)
        pages.write(np.full((6, 8, 3), 200, np.uint8), photometric="rgb")
    image = decode(file.getvalue(), LIMIT).image
    assert (image.size, image.getpixel((0, 0))) == ((8, 6), (200, 200, 200))


def test_metadata_of_any_kind_and_damage_changes_nothing() -> None:
    for tag in (270, 305, 306, 33432, 34675, 700, 33723, 34377, 34665, 34853, 65000, 282, 296, 301, 37724):
        for value in ((0xFFFF,) * 9, (1,), (0xFFFF, 0xFFFF)):
            assert judge(small({tag: value}), gray(LEVELS / 255)) == "right"


def test_many_tags_and_thumbnails_are_refused() -> None:
    with pytest.raises(ImageTooLarge, match="1000 tags"):
        decode(small(dict.fromkeys(range(1000, 2001), (1,))), LIMIT)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as pages:
        for _ in range(101):
            pages.write(np.zeros((2, 2), np.uint8), subfiletype=1)
    with pytest.raises(ImageTooLarge, match="thumbnails"):
        decode(file.getvalue(), LIMIT)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_pixels_that_are_cut_short_behind_their_directory(
    compression: str | None, planar: str, tile: tuple[int, int] | None
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (3, 30, 20) if planar == "separate" else (30, 20, 3), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(
        file, samples, photometric="rgb", planarconfig=planar, tile=tile, compression=compression, rowsperstrip=7
    )  # fmt: skip
    data = file.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as pages:
        page = pages.pages[0]
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
    decode(data[:end], LIMIT)
    for cut in (1, 4, 50):
        with pytest.raises(InvalidImage, match=f"of [0-9]+ bytes of pixels, {cut} are missing"):
            decode(data[: end - cut], LIMIT)


def test_a_directory_beyond_the_end() -> None:
    with pytest.raises(InvalidImage, match="TIFF"):
        decode(small({})[:-30], LIMIT)
    with pytest.raises(InvalidImage, match="TIFF"):
        decode(tiff([(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 500_000, 2**31)]), LIMIT)


@pytest.mark.parametrize("compression", [3, 4, 5, 7, 8, 32_773])
def test_strips_at_one_place_are_refused_where_they_are_far_more_than_the_file(compression: int) -> None:
    """Each is decompressed for itself: a hundred of a megabyte without a pixel took 12 seconds."""
    for count, refused in ((2, False), (1000, True)):
        places = struct.pack(f"<{count}I", *[10_000] * count) + struct.pack(f"<{count}I", *[1_000_000] * count)
        tags = [(256, 4, 1, 16), (257, 4, 1, count), (258, 3, 1, 1 if compression in (3, 4) else 8), (262, 3, 1, 1)]
        tags += [(259, 3, 1, compression), (278, 4, 1, 1), (273, 4, count, 200), (279, 4, count, 200 + 4 * count)]
        head = tiff(tags)[:200].ljust(200, b"\0")
        data = (head + places).ljust(10_000, b"\0") + bytes(1_000_000)
        if refused:
            with pytest.raises(ImageTooLarge, match="at one place"):
                strip(data, LIMIT)
        else:
            assert strip(data, LIMIT).height == count


def test_a_jpeg_of_many_scans_in_each_tile_is_refused() -> None:
    """As many as one in a file of its own may have."""
    stream = encode(Image.new("L", (1024, 1024)), "JPEG", progressive=True)
    last = stream[stream.rindex(b"\xff\xda") : -2]
    for more, refused in ((0, False), (90, True)):
        data = stream[:-2] + last * more + stream[-2:]
        for sizes in ([(279, 4, 1, 0)], []):  # of one strip, which has to the end of the file then
            tags = [(256, 4, 1, 1024), (257, 4, 1, 1024), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1)]
            file = tiff([*tags, (273, 4, 1, 400), *sizes]).ljust(400, b"\0")[:400] + data
            if refused:
                with pytest.raises(ImageTooLarge, match="scans"):
                    strip(file, LIMIT // 8)
            else:
                assert strip(file, LIMIT // 8).width == 1024
        tiles = struct.pack("<4I", *[400] * 4) + struct.pack("<4I", *[len(data)] * 4)
        tags = [(256, 4, 1, 2048), (257, 4, 1, 2048), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1)]
        tags += [(322, 4, 1, 1024), (323, 4, 1, 1024), (324, 4, 4, 300), (325, 4, 4, 316)]
        file = (tiff(tags)[:300].ljust(300, b"\0") + tiles).ljust(400, b"\0") + data
        if refused:
            with pytest.raises(ImageTooLarge, match="scans"):
                decode(file, LIMIT)
        else:
            assert decode(file, LIMIT).info.width == 2048
