"""Real images of every accepted format, damaged by chance: the same ones for the same seed."""

import importlib.util
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks.photograph import photograph
from benchmarks.robustness.fields import PNG_START, fields, follow
from service.images import pillow  # noqa: F401 - HEIC can be written once it has been loaded
from service.images.formats import FORMATS

_TELLING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


class Seed(NamedTuple):
    """An intact image to start from."""

    format: str
    data: bytes


def seeds() -> list[Seed]:
    """Photographs and drawings in the modes and compressions that each format has, and those of others' making."""
    return [*_made(), *_found()]


def _found() -> list[Seed]:
    """Files of cameras and of other encoders, as matplotlib and scikit-learn bring them along."""
    folders = {"matplotlib": "mpl-data/sample_data", "sklearn": "datasets/images"}
    found: list[Seed] = []
    for package, folder in folders.items():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            paths = sorted((Path(spec.origin).parent / folder).iterdir())
            kinds = {".jpg": "JPEG", ".png": "PNG"}
            found += [Seed(kinds[path.suffix], path.read_bytes()) for path in paths if path.suffix in kinds]
    return found


def _made() -> list[Seed]:
    photo = photograph(160, 120)
    frames = [photo.resize((40, 30)).rotate(90 * turn) for turn in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    animated = {"save_all": True, "append_images": frames[1:]}
    alpha = photo.copy()
    alpha.putalpha(photo.convert("L"))
    variants: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("JPEG", photo, {"exif": exif}),
        ("JPEG", photo, {"progressive": True}),
        ("JPEG", photo, {"restart_marker_blocks": 4, "subsampling": "4:2:0"}),
        ("JPEG", photo.convert("L"), {}),
        ("JPEG", photo.convert("CMYK"), {}),
        ("JPEG", photo, {"icc_profile": bytes(3000)}),
        ("PNG", photo, {"exif": exif}),
        ("PNG", alpha, {}),
        ("PNG", photo.quantize(64), {"transparency": 3}),
        ("PNG", photo.convert("1"), {}),
        ("PNG", photo.convert("I;16"), {}),
        ("PNG", frames[0], animated),
        ("WEBP", photo, {"exif": exif}),
        ("WEBP", alpha, {"lossless": True}),
        ("WEBP", frames[0], animated),
        ("GIF", photo.quantize(64), {}),
        ("GIF", frames[0], animated),
        ("BMP", photo, {}),
        ("BMP", photo.quantize(16), {}),
        ("BMP", alpha, {}),
        ("TIFF", photo, {}),
        ("TIFF", photo, {"compression": "tiff_lzw"}),
        ("TIFF", photo, {"compression": "tiff_adobe_deflate"}),
        ("TIFF", photo, {"compression": "packbits"}),
        ("TIFF", photo, {"compression": "jpeg"}),
        ("TIFF", photo.convert("1"), {"compression": "group4"}),
        ("TIFF", frames[0], animated),
        ("AVIF", photo, {}),
        ("AVIF", alpha, {"quality": 90}),
        ("HEIC", photo, {}),
    ]
    return [Seed(name, _encode(image, name, options)) for name, image, options in variants if name in FORMATS]


def _encode(image: Image.Image, format_: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    image.save(file, {"HEIC": "HEIF"}.get(format_, format_), **options)
    return file.getvalue()


def mutated(intact: list[Seed], seed: int, number: int) -> Seed:
    """The `number`th damaged image of a seed: one to four mutations of one of `intact`."""
    chance = random.Random(f"{seed}/{number}")
    source = chance.choice(intact)
    data = source.data
    for _ in range(chance.randint(1, 4)):
        mutate = chance.choice(_MUTATIONS)
        data = mutate(data, chance, intact) or data
    if data.startswith(PNG_START) and chance.random() < 0.7:
        data = _with_checksums(data)
    return Seed(source.format, data)


def damaged_body(data: bytes, chance: random.Random) -> bytes:
    """A request's body, damaged once."""
    return chance.choice((_flip_bits, _set_number, _truncate, _swap_parts, _repeat_part, _remove_part))(
        data, chance, []
    )


def _flip_bits(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    damaged = bytearray(data)
    for _i in range(chance.choice((1, 2, 8, 64))):
        # Heads decide more than pixels do.
        reach = chance.choice((64, 1024, len(damaged)))
        damaged[chance.randrange(min(reach, len(damaged)))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _set_number(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    """A length, an offset, a size or a count becomes a telling one."""
    size = chance.choice((1, 2, 4))
    number = chance.choice(_TELLING) & (1 << 8 * size) - 1
    at = chance.choice([*_cuts(data)[:40], chance.randrange(min(len(data), 512))]) + chance.choice((0, 2, 4))
    return data[:at] + number.to_bytes(size, chance.choice(("big", "little"))) + data[at + size :]


def _set_field(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    """A field of a header becomes a telling number, or a little more or less than it is."""
    found = fields(data)
    if not found:
        return data
    at, size, order = chance.choice(found)
    number = int.from_bytes(data[at : at + size], order)
    changed = chance.choice((*_TELLING, number + 1, number - 1, 2 * number, number // 2)) & (1 << 8 * size) - 1
    return data[:at] + changed.to_bytes(size, order) + data[at + size :]


def _truncate(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    return data[: chance.randrange(1, len(data) + 1)]


def _splice(data: bytes, chance: random.Random, intact: list[Seed]) -> bytes:
    """Its beginning, and then another file's end."""
    other = chance.choice(intact).data
    return data[: chance.choice(_cuts(data))] + other[chance.choice(_cuts(other)) :]


def _swap_parts(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    parts = _parts(data)
    i, j = chance.randrange(len(parts)), chance.randrange(len(parts))
    parts[i], parts[j] = parts[j], parts[i]
    return b"".join(parts)


def _repeat_part(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    parts = _parts(data)
    i = chance.randrange(len(parts))
    times = min(chance.choice((2, 10, 1000)), 1 + 200_000 // max(1, len(parts[i])))
    return b"".join([*parts[:i], parts[i] * times, *parts[i + 1 :]])


def _remove_part(data: bytes, chance: random.Random, _: list[Seed]) -> bytes:
    parts = _parts(data)
    del parts[chance.randrange(len(parts))]
    return b"".join(parts)


_MUTATIONS: tuple[Callable[[bytes, random.Random, list[Seed]], bytes], ...] = (
    *(_flip_bits, _set_number, _set_field, _set_field, _truncate, _splice, _swap_parts, _repeat_part, _remove_part),
)


def _parts(data: bytes) -> list[bytes]:
    cuts = _cuts(data)
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _cuts(data: bytes) -> list[int]:
    """Where its chunks, segments or boxes begin, as far as they can be followed; at least one place."""
    cuts: list[int] = []
    if data.startswith(PNG_START):
        cuts = follow(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    elif data.startswith(b"\xff\xd8"):
        cuts = follow(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
    elif data.startswith(b"RIFF"):
        cuts = follow(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)
    elif data[4:8] == b"ftyp":
        cuts = follow(data, 0, lambda at: int.from_bytes(data[at : at + 4], "big"))
        cuts += [at for at in (data.find(kind) - 4 for kind in (b"iloc", b"iprp", b"ispe", b"av1C", b"iinf")) if at > 0]
    return sorted({*cuts, *range(64, len(data), max(64, len(data) // 32))}) or [len(data) // 2]


def _with_checksums(data: bytes) -> bytes:
    """Damage reaches a PNG's decoder only behind checksums that are right."""
    parts = [PNG_START]
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        parts.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts)
