"""Images made to hurt: each with the statuses that a service may answer it with."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial

import numpy as np
from PIL import Image, features

from tests.doubles import encode


@dataclass(frozen=True)
class Hostile:
    """One image; what takes long to make is made when its data are first looked at, not when tests are collected."""

    name: str
    content: bytes | Callable[[], bytes]
    expected: tuple[int, ...]

    @cached_property
    def data(self) -> bytes:
        return self.content() if callable(self.content) else self.content


OK, TOO_LARGE, UNSUPPORTED, INVALID = 200, 413, 415, 422


def small(mode: str = "RGB", side: int = 32) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 4), np.uint8)
    return Image.fromarray(noise if mode in ("RGBA", "LA") else noise[..., :3]).convert(mode)


@cache
def corpus() -> list[Hostile]:
    return list(_corpus())


def _corpus() -> Iterator[Hostile]:
    yield from pixel_bombs()
    yield from jpegs()
    yield from pngs()
    yield from gifs()
    yield from tiffs()
    yield from bmps()
    yield from webps()
    yield from avifs()
    yield from unusual_but_right()
    yield from other_formats()
    yield from polyglots()
    yield from truncated()


def pixel_bombs() -> Iterator[Hostile]:
    """Headers that announce gigapixels over next to no data."""
    yield Hostile("png 50000x50000", png(50_000, 50_000), (TOO_LARGE,))
    yield Hostile("png 2147483647x2147483647", png(2**31 - 1, 2**31 - 1), (TOO_LARGE, INVALID))
    yield Hostile("png just over", png(8000, 8000), (TOO_LARGE,))
    yield Hostile("png 1x50000000", png(1, 50_000_000), (TOO_LARGE,))
    yield Hostile("jpeg 65500x65500", jpeg_of_size(65_500, 65_500), (TOO_LARGE,))
    yield Hostile("jpeg 65500x65500 progressive", jpeg_of_size(65_500, 65_500, progressive=True), (TOO_LARGE,))
    yield Hostile("gif screen 65535x65535", gif(65_535, 65_535), (TOO_LARGE,))
    yield Hostile("gif frame 65535x65535 on a small screen", gif(1, 1, frame=(65_535, 65_535)), (TOO_LARGE,))
    yield Hostile("gif disposes of 65535x65535", gif(65_535, 65_535, disposal=2), (TOO_LARGE,))
    yield Hostile("webp canvas 16384x16384", webp_canvas(16_384, 16_384), (TOO_LARGE, INVALID))
    yield Hostile("webp canvas 16777216x256", webp_canvas(2**24, 256), (TOO_LARGE, INVALID))
    yield Hostile("bmp 2000000000x2000000000", bmp(2_000_000_000, 2_000_000_000), (TOO_LARGE, INVALID))
    yield Hostile("bmp 50000x-50000", bmp(50_000, -50_000), (TOO_LARGE, INVALID))
    yield Hostile("tiff 65535x65535", tiff([*GRAY_8, (256, 4, 1, 65_535), (257, 4, 1, 65_535)]), (TOO_LARGE,))
    yield Hostile("tiff 4294967295x1", tiff([*GRAY_8, (256, 4, 1, 2**32 - 1), (257, 4, 1, 1)]), (TOO_LARGE, INVALID))


def jpegs() -> Iterator[Hostile]:
    plain = encode(small(), "JPEG")
    head, rest = plain[:2], plain[2:]
    yield Hostile("jpeg with junk before its segments", head + b"\xff\xe0\x00\x02" + bytes(8_000_000) + rest, (OK,))
    yield Hostile("jpeg with a million comments", head + b"\xff\xfe\x00\x02" * 1_000_000 + rest, (TOO_LARGE,))
    yield Hostile("jpeg of fill bytes before its segments", head + b"\xff" * 8_000_000 + rest, (OK,))
    yield Hostile("jpeg with fill bytes for an end", plain[:-2] + b"\xff" * 8_000_000, (OK,))
    yield Hostile("jpeg of fill bytes alone", head + b"\xff" * 8_000_000, (INVALID,))
    exif = b"\xff\xe1\x00\x09Exif\0\0\x01"
    yield Hostile("jpeg with a hundred thousand exifs", head + exif * 100_000 + rest, (TOO_LARGE,))
    yield Hostile("jpeg with 10 MB of profile", head + (b"\xff\xe2\xff\xff" + bytes(65_533)) * 150 + rest, (OK,))
    yield Hostile("jpeg with a rational of 100000 values", head + exif_segments(huge_rational(100_000)) + rest, (OK,))
    cyclic = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)
    yield Hostile("jpeg with cyclic exif", head + exif_segments(cyclic) + rest, (OK,))
    for orientation in (0, 9, 65_535):
        tag = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, orientation, 0)
        yield Hostile(f"jpeg with orientation {orientation}", head + exif_segments(tag) + rest, (OK,))
    progressive = encode(small(side=64), "JPEG", progressive=True)
    for name, behind, expected in (
        ("comments", b"\xff\xfe\0\2" * 2_000_000, TOO_LARGE),
        ("stuffed bytes", b"\xff\0" * 4_000_000, OK),
        ("fill bytes", b"\xff" * 8_000_000, OK),
    ):
        yield Hostile(f"progressive jpeg without an end, but {name}", progressive[:-2] + behind + b"\0", (expected,))
    last = progressive[progressive.rfind(b"\xff\xda") : -2]
    yield Hostile("jpeg of 5000 scans", progressive[:-2] + last * 5000 + progressive[-2:], (TOO_LARGE,))
    yield Hostile("jpeg of 60 scans over 49 million pixels", jpeg_of_many_large_scans, (TOO_LARGE,))
    by_component = encode(small(), "JPEG", subsampling="4:4:4")
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(40)
    at = by_component.rfind(b"\xff\xda")
    yield Hostile("jpeg of 3000 baseline scans", by_component[:at] + scan * 3000 + b"\xff\xd9", (TOO_LARGE,))
    video = np.random.default_rng(2).integers(0, 256, 8_000_000, np.uint8).tobytes()
    yield Hostile("jpeg with a film behind it", plain + video, (OK,))
    yield Hostile("progressive jpeg with a film behind it", progressive + video, (OK,))
    yield Hostile("jpeg of 12 bits", plain.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), (UNSUPPORTED,))
    yield Hostile("jpeg of two sizes", head + sof(8, 8) + rest, (INVALID,))
    yield Hostile("jpeg of no size", jpeg_of_size(0, 0), (INVALID,))
    yield Hostile("jpeg, its start alone", b"\xff\xd8\xff", (INVALID,))
    yield Hostile("jpeg, adobe marker cut", head + b"\xff\xee\x00\x07Adobe" + rest, (OK, INVALID))


def jpeg_of_many_large_scans() -> bytes:
    large = encode(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True)
    last = large[large.rfind(b"\xff\xda") : -2]
    return large[:-2] + last * 50 + large[-2:]


def pngs() -> Iterator[Hostile]:
    megabytes = cache(lambda: zlib.compress(bytes(100_000_000), 9))
    yield Hostile("png with a profile of 100 MB", lambda: png(8, 8, [(b"iCCP", b"x\0\0" + megabytes())]), (OK,))
    yield Hostile("png with zTXt of 100 MB", lambda: png(8, 8, [(b"zTXt", b"x\0\0" + megabytes())]), (OK,))
    yield Hostile("png with iTXt of 100 MB", lambda: png(8, 8, [(b"iTXt", b"x\0\1\0\0\0" + megabytes())]), (OK,))
    megabyte = zlib.compress(bytes(2**20 - 1), 9)
    yield Hostile("png with 4000 profiles of 1 MB", png(8, 8, [(b"iCCP", b"x\0\0" + megabyte)] * 4000), (OK,))
    yield Hostile("png with 4000 nameless texts of 1 MB", png(8, 8, [(b"zTXt", b"\0\0" + megabyte)] * 4000), (OK,))
    yield Hostile("png of a million chunks", lambda: png(8, 8, [(b"abCd", b"")] * 1_000_000), (TOO_LARGE,))
    yield Hostile("png of more rows than it announces", lambda: png(8, 8, rows=4_000_000), (OK, INVALID))
    pieces = zlib.compress(b"\0" * (3 * 1000 + 1) * 1000, 0)
    yield Hostile(
        "png of a byte a chunk",
        lambda: png(1000, 1000, [(b"IDAT", pieces[i : i + 1]) for i in range(300_000)]),
        (TOO_LARGE,),
    )
    yield Hostile("png of a bad checksum", bytes(png(8, 8)[:29]) + b"\0\0\0\0" + png(8, 8)[33:], (INVALID,))
    yield Hostile("png of a chunk of 2 GB", png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt", (INVALID,))
    yield Hostile("png with 4294967295 frames", png(8, 8, [(b"acTL", struct.pack(">II", 2**31, 0))]), (OK, INVALID))


def gifs() -> Iterator[Hostile]:
    frames = [Image.new("P", (8, 8), i % 7) for i in range(3000)]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10, optimize=False)
    yield Hostile("gif of 3000 frames", animation, (OK,))
    storm = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"!\xfe" + b"\x01x" * 4_000_000 + b"\0"
    yield Hostile("gif of four million comments", storm, (TOO_LARGE,))
    yield Hostile("gif of no frame", b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";", (INVALID,))
    yield Hostile("gif of no size", gif(0, 0, frame=(0, 0)), (INVALID,))
    yield Hostile("gif of codes of 255 bits", gif(8, 8, code_size=255), (INVALID,))


GRAY_8 = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1024)]
SIDE_16 = struct.pack(">II", 16 << 16, 16 << 16)  # as a track has it
SIZE_32 = [(256, 4, 1, 32), (257, 4, 1, 32)]


def tiffs() -> Iterator[Hostile]:
    for name, compression in (
        ("old-style jpeg", 6), ("thunderscan", 32_809), ("sgilog", 34_676), ("lzma", 34_925), ("zstd", 50_000),
        ("webp", 50_001), ("raw 16", 32_771),
    ):  # fmt: skip
        tags = [tag for tag in GRAY_8 if tag[0] != 259]
        data = tiff([*tags, *SIZE_32, (259, 3, 1, compression)])
        yield Hostile(f"tiff compressed by {name}", data, (UNSUPPORTED, INVALID))
    yield Hostile("tiff of compression 12345", tiff([*GRAY_8[:1], *SIZE_32, (259, 3, 1, 12_345)]), (UNSUPPORTED,))
    tile = [(258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8)]
    yield Hostile("tiff of a tile of 60000x60000", tiff([*tile, *SIZE_32, (325, 4, 1, 100)]), (INVALID,))
    tile = [(322, 4, 1, 60_000), (323, 4, 1, 60_000)]
    yield Hostile("tiff of a tile of 60000x60000 in a strip's place", tiff([*GRAY_8, *tile, *SIZE_32]), (INVALID,))
    rational = b"\x01\0\0\0\x03\0\0\0" * 200_000
    yield Hostile(
        "tiff of a resolution of 200000 values",
        tiff([*GRAY_8, *SIZE_32, (282, 5, 200_000, 200)], rational),
        (OK,),
    )
    rational *= 9
    yield Hostile(
        "tiff of a resolution of 1800000 values",
        tiff([*GRAY_8, *SIZE_32, (282, 5, 1_800_000, 200)], rational),
        (OK,),
    )
    exif = tiff([*GRAY_8, *SIZE_32, (0x8769, 4, 1, 8)])
    yield Hostile("tiff whose exif is itself", exif, (OK,))
    yield Hostile("tiff whose next page is itself", tiff([*GRAY_8, *SIZE_32], following=8), (OK,))
    yield Hostile(
        "tiff of 60000 tags", tiff([*GRAY_8, *SIZE_32, *((i, 3, 1, 1) for i in range(1000, 61_000))]), (OK, TOO_LARGE)
    )
    yield Hostile("tiff of 65535 samples", tiff([*GRAY_8, *SIZE_32, (277, 3, 1, 65_535)]), (UNSUPPORTED,))
    yield Hostile(
        "tiff beyond its end", tiff([*GRAY_8[:3], *SIZE_32, (273, 4, 1, 2**31), (279, 4, 1, 1024)]), (INVALID,)
    )
    yield Hostile("tiff without a directory", b"II*\0" + struct.pack("<I", 2**32 - 1), (INVALID,))
    pages = [Image.new("L", (4, 4), i % 256) for i in range(500)]
    yield Hostile("tiff of 500 pages", encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]), (OK,))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield Hostile(f"tiff of {compression}", encode(small(), "TIFF", compression=compression), (OK,))
    yield Hostile("tiff of group 4", encode(small("1"), "TIFF", compression="group4"), (OK,))


def bmps() -> Iterator[Hostile]:
    yield Hostile("bmp of runs over 50 million pixels", bmp(50_000, 1000, b"\1\0\0\0", compression=1), (UNSUPPORTED,))
    yield Hostile("bmp of runs of 4 bits", bmp(32, 32, b"\0\1", compression=2, bits=4), (UNSUPPORTED,))
    yield Hostile("bmp of an embedded jpeg", bmp(32, 32, compression=4), (UNSUPPORTED,))
    yield Hostile("bmp of 65536 colours", bmp(32, 32, colours=65_536), (INVALID,))
    yield Hostile("bmp of an unknown header", b"BM" + bytes(12) + struct.pack("<I", 77) + bytes(80), (UNSUPPORTED,))


def webps() -> Iterator[Hostile]:
    frames = [Image.new("RGB", (16, 16), (i % 256, 0, 0)) for i in range(300)]
    yield Hostile("webp of 300 frames", encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]), (OK,))
    plain = encode(small(), "WEBP")
    yield Hostile("webp of a wrong length", plain[:4] + struct.pack("<I", 2**32 - 1) + plain[8:], (OK, INVALID))
    yield Hostile("webp of nothing", b"RIFF\x04\0\0\0WEBP", (INVALID,))
    exif = encode(small(), "WEBP", exif=b"Exif\0\0" + huge_rational(500_000, tag=0x112))
    yield Hostile("webp with an orientation of 500000 values", exif, (OK,))


def avifs() -> Iterator[Hostile]:
    if not features.check("avif"):
        return
    plain = bytearray(encode(small(side=64), "AVIF"))
    yield Hostile("avif", bytes(plain), (OK,))
    size = plain.find(b"ispe") + 8
    bomb = plain[:size] + struct.pack(">II", 30_000, 30_000) + plain[size + 8 :]
    yield Hostile("avif announcing 30000x30000", bytes(bomb), (TOO_LARGE, INVALID))
    yield Hostile("avif of 16 million pixels announcing 16x16", avif_announcing_less, (TOO_LARGE,))
    sequence = encode(small(), "AVIF", save_all=True, append_images=[small("L").convert("RGB")])
    yield Hostile("avif sequence", sequence, (OK,))
    brands = sequence[:16].replace(b"avis", b"msf1") + sequence[16:36].replace(b"avif", b"avis") + sequence[36:]
    yield Hostile("avif sequence without a still", brands, (UNSUPPORTED,))
    for brand in (b"avis", b"mif1"):
        yield Hostile(
            f"avif of {brand.decode()} whose track is another image", partial(avif_beside_track, brand), (OK,)
        )
    location = plain.find(b"iloc")
    yield Hostile("avif of no locations", bytes(plain[:location] + b"free" + plain[location + 4 :]), (INVALID,))


def unusual_but_right() -> Iterator[Hostile]:
    """Nothing is wrong with these, but that few decoders are tried on them."""
    for mode in ("L", "CMYK", "YCbCr", "RGB"):
        yield Hostile(f"jpeg of {mode}", encode(small(mode), "JPEG"), (OK,))
    inverted = encode(small("CMYK"), "JPEG").replace(
        b"Adobe\x00d\x00\x00\x00\x00\x00", b"Adobe\x00d\x00\x00\x00\x00\x02"
    )
    yield Hostile("jpeg of YCCK", inverted, (OK,))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(np.full((8, 8), 40_000, np.uint16)) if mode == "I;16" else small(mode)
        yield Hostile(f"png of {mode}", encode(image, "PNG"), (OK,))
    yield Hostile("png of a transparent colour", encode(small(), "PNG", transparency=(1, 2, 3)), (OK,))
    yield Hostile("png of a palette with alphas", encode(small("P"), "PNG", transparency=bytes(range(256))), (OK,))
    yield Hostile("tiff of floats", encode(small("L").convert("F"), "TIFF"), (UNSUPPORTED,))
    mpo = io.BytesIO()
    small().save(mpo, "MPO", save_all=True, append_images=[small()])
    yield Hostile("jpeg of two pictures (mpo)", mpo.getvalue(), (OK,))
    yield Hostile("gif of one transparent pixel", encode(Image.new("P", (1, 1)), "GIF", transparency=0), (OK,))
    yield Hostile("png of 1x40000", encode(Image.new("L", (1, 40_000)), "PNG"), (OK,))


def other_formats() -> Iterator[Hostile]:
    """Every other format that Pillow writes, and the beginnings of those that it only reads."""
    accepted = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO"}
    Image.init()
    for format_ in sorted(Image.SAVE.keys() - accepted):
        for mode in ("RGB", "L", "P", "1", "F"):
            try:
                data = encode(small(mode), format_)
            except Exception:
                continue
            # A JPEG 2000 of one picture, a DIB without its file header: by content none of ours.
            yield Hostile(f"{format_} of {mode}", data, (UNSUPPORTED,))
            break
    for name, data in {
        "psd": b"8BPS\0\1" + bytes(40),
        "eps that runs a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(40),
        "mif1 of another codec": b"\0\0\0\x18ftypmif1\0\0\0\0mif1jpeg" + bytes(40),
        "pcd": bytes(2048) + b"PCD_IPI",
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(40),
        "fli": b"\0\0\0\0\x11\xaf" + bytes(140),
        "bigtiff": b"II+\0\x08\0\0\0" + bytes(40),
        "ftyp cut": b"\0\0\0\x18ftyp",
    }.items():
        yield Hostile(name, data, (UNSUPPORTED,))


def polyglots() -> Iterator[Hostile]:
    """Files that are an image to us and something else to others: the image counts, and nothing else is looked at."""
    script = b"<script>alert(1)</script><svg onload=alert(1)>"
    yield Hostile("png and html", encode(small(), "PNG") + script, (OK,))
    yield Hostile(
        "jpeg and zip", encode(small(), "JPEG") + b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + bytes(18), (OK,)
    )
    yield Hostile("gif and javascript", encode(small("P"), "GIF") + b"/*" + script + b"*/=1;", (OK,))
    for name, data in {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
        "xml with an entity": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "html": b"<!doctype html>" + script,
        "pdf": b"%PDF-1.7\n",
        "zip": b"PK\x03\x04" + bytes(100),
        "a url": b"http://127.0.0.1:9000/metrics",
        "a path": b"/etc/passwd",
        "an elf": b"\x7fELF" + bytes(60),
        "a pickle": b"\x80\x04\x95" + bytes(60),
    }.items():
        yield Hostile(name, data, (UNSUPPORTED,))


def truncated() -> Iterator[Hostile]:
    formats = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else [])]
    for format_ in formats:
        data = encode(small(), format_)
        for sixteenth in range(1, 16):
            part = data[: len(data) * sixteenth // 16]
            yield Hostile(f"{format_} cut at {sixteenth}/16", part, (OK, INVALID, UNSUPPORTED))


def avif_announcing_less() -> bytes:
    large = bytearray(encode(Image.new("L", (4000, 4000)), "AVIF", speed=10))
    size = large.find(b"ispe") + 8
    large[size : size + 8] = struct.pack(">II", 16, 16)
    return bytes(large)


@cache
def avif_sequence() -> bytes:
    frame = Image.new("L", (4000, 4000))
    return encode(frame, "AVIF", speed=10, save_all=True, append_images=[frame])


def avif_beside_track(brand: bytes) -> bytes:
    """A still of 16x16 beside a track of 4000x4000, which announces 16x16 too; its major brand is `brand`."""
    sequence = avif_sequence()
    sequence = sequence.replace(b"meta", b"free", 1).replace(struct.pack(">II", 4000 << 16, 4000 << 16), SIDE_16)
    still = encode(small(side=16), "AVIF")
    start = still.find(b"meta") - 4
    (size,) = struct.unpack_from(">I", still, start)
    meta = bytearray(still[start : start + size])
    place = meta.find(b"iloc") + 18
    (offset,) = struct.unpack_from(">I", meta, place)
    struct.pack_into(">I", meta, place, len(sequence) + size)
    return sequence[:8] + brand + sequence[12:] + meta + still[offset:]


def png(width: int, height: int, chunks: list[tuple[bytes, bytes]] | None = None, rows: int | None = None) -> bytes:
    """An RGB PNG; black, and cut short if it is large."""
    if rows is None:
        rows = height if width * height < 1000 else 1
    pixels = zlib.compress(bytes((min(width, 1000) * 3 + 1) * rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *(chunks or []), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in parts)


@lru_cache(300)  # some images have a million of the same
def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def sof(width: int, height: int) -> bytes:
    return b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"


def jpeg_of_size(width: int, height: int, progressive: bool = False) -> bytes:
    data = encode(small(), "JPEG", progressive=progressive)
    at = data.find(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def exif_segments(exif: bytes) -> bytes:
    pieces = [exif[i : i + 65_000] for i in range(0, len(exif), 65_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(piece) + 8) + b"Exif\0\0" + piece for piece in pieces)


def huge_rational(count: int, tag: int = 0x11A) -> bytes:
    head = b"II*\0" + struct.pack("<IHHHII", 8, 1, tag, 5, count, 64) + struct.pack("<I", 0)
    return head.ljust(64, b"\0") + struct.pack("<II", 1, 3) * count


def gif(width: int, height: int, frame: tuple[int, int] | None = None, disposal: int = 0, code_size: int = 2) -> bytes:
    control = b"!\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0])
    place = struct.pack("<HHHHB", 0, 0, *(frame or (width, height)), 0)
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + control + b"," + place + bytes([code_size]) + b"\x02\x44\x01\x00;"


def webp_canvas(width: int, height: int) -> bytes:
    stream = encode(small(), "WEBP", lossless=True)[12:]
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(stream)) + b"WEBP" + canvas + stream


def bmp(width: int, height: int, pixels: bytes = b"", compression: int = 0, bits: int = 8, colours: int = 256) -> bytes:
    palette = bytes(4 * min(colours, 256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + header + palette + pixels


def tiff(tags: list[tuple[int, int, int, int]], body: bytes = b"", following: int = 0) -> bytes:
    """Little-endian; every tag's value, or its place, is the last of its four numbers."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", 8) + directory + body + bytes(1200)
