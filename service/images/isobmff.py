"""AVIF and HEIC: the boxes that decide the pixels of the primary image, and bounds on how many of anything there are.

ISO/IEC 14496-12 (boxes), 23008-12 (images as items).
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import ImageTooLarge, UnsupportedImage
from service.images import av1
from service.images.stripped import Stripped, damaged

_BOXES = 1000  # of one kind in one box; the tiles of a telephone's largest photograph are 192 items
_REFERENCES = 8 * _BOXES  # of items to items and to properties
_FILM = (b"moov", b"moof", b"mfra")
_PIXEL_ITEMS = (b"av01", b"hvc1", b"grid", b"iden", b"iovl")
_CODED = 8  # times its pixels in what is decoded, and a million: colours, alpha, thumbnail, tiles that overhang
_SINGLE = (b"pitm", b"iinf", b"iloc", b"iprp", b"iref", b"idat", b"ipco")  # of which decoders take any, if two
_MAPS = 4  # boxes ipma, one for each way to write them
_DEPTH = 3  # of images made of images
_TURNS = 3  # of one item: a crop, a rotation and a mirroring


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    at: int
    start: int  # of its payload
    end: int


@dataclass(frozen=True, slots=True)
class _Item:
    number: int
    method: int  # 0: in the file, 1: in the box idat
    extents: list[tuple[int, int]]  # place and length


def strip(data: bytes, format_: str, max_pixels: int) -> Stripped:
    """The file as one of a still image, in which films and items that are no images are named as free space.

    The decoders' work can be quadratic in items, and of a file with tracks they may decode those: what is there is
    counted here, in linear time. Sizes are the decoder's to tell.

    Raises:
        ImageTooLarge: more items, properties or references than any photograph has, or an image made of far more pixels
            than it has.
        UnsupportedImage: a crop that the decoder would leave out.
        InvalidImage: damaged, or cut short within these boxes.
    """
    try:
        file, turned = _strip(data, b"avif" if format_ == "AVIF" else b"heic", max_pixels)
        return Stripped(file, 0, 0, turned=turned)
    except (struct.error, IndexError, ValueError):
        raise damaged(format_) from None


def check_coded(data: bytes, pixels: int, max_pixels: int) -> None:
    """Raise ImageTooLarge if the AV1 streams of a stripped AVIF of `pixels` hold far more than that.

    The decoder decodes what a stream says before it compares that with the container.
    """
    meta = _only(data, 0, len(data), b"meta")
    try:
        idat = next((box for box in _boxes(data, meta.start + 4, meta.end) if box.kind == b"idat"), None)
        infos = _only(data, meta.start + 4, meta.end, b"iinf")
        coded = {number for number, kind, _ in _infos(data, infos) if kind == b"av01"}
        total = seen = 0
        for item in _locations(data, _only(data, meta.start + 4, meta.end, b"iloc")):
            if item.number in coded:
                stream = _stream(data, item, idat)
                seen += len(stream)
                if seen > 2 * len(data):
                    raise _too_many("items at one place")
                total += av1.pixels(stream)
    except (struct.error, IndexError, ValueError):
        raise damaged("AVIF") from None
    if total > min(_CODED * pixels + 2**20, 3 * max_pixels):
        raise ImageTooLarge("the AVIF holds more pixels than it announces", reason="pixels")


def _strip(data: bytes, brand: bytes, max_pixels: int) -> tuple[bytes, bool]:
    file, turned, metas = bytearray(data), False, 0
    for box in _boxes(data, 0, len(data), open_ended=True):
        if box.kind in _FILM:
            file[box.at + 4 : box.at + 8] = b"free"
        elif box.kind == b"ftyp":
            file[box.start : box.start + 4] = brand
            for at in range(box.start + 8, box.end - 3, 4):
                if data[at : at + 4] in (b"avis", b"msf1", b"hevc", b"hevx"):  # sequences
                    file[at : at + 4] = brand
        elif box.kind == b"mdat" and struct.unpack_from(">I", data, box.at)[0] > 1:
            struct.pack_into(">I", file, box.at, box.end - box.at)  # of one that is cut short, what is there
        elif box.kind == b"meta":
            metas += 1
            if metas > 1:
                raise ValueError("two boxes meta")
            _check_single(data, box)
            for at in _metadata(data, box):
                file[at : at + 4] = b"free"
            properties = list(_properties(data, box))
            if brand == b"avif" and any(prop.kind == b"clap" for prop in properties):
                raise UnsupportedImage("an AVIF with a crop (clean aperture) is not accepted", reason="variant")
            turned = any(_turns(data, prop) for prop in properties)
            _check_work(data, box, properties, max_pixels)
    return bytes(file), turned


def _check_single(data: bytes, meta: _Box) -> None:
    """Raise ValueError if there is more than one of a box that there may be one of."""
    for boxes in (_boxes(data, meta.start + 4, meta.end), _parts(data, meta)):
        kinds = Counter(box.kind for box in boxes)
        if kinds[b"ipma"] > _MAPS or any(kinds[kind] > 1 for kind in _SINGLE):
            raise ValueError("two boxes of a kind")


def _metadata(data: bytes, meta: _Box) -> Iterator[int]:
    """Where the types of items that are no images are."""
    for box in _boxes(data, meta.start + 4, meta.end):
        if box.kind == b"iinf":
            yield from (at for _, kind, at in _infos(data, box) if kind not in _PIXEL_ITEMS)
        elif box.kind == b"iloc":
            for _ in _locations(data, box):
                pass


def _parts(data: bytes, meta: _Box) -> Iterator[_Box]:
    """The properties' boxes: themselves, and which item has which."""
    for box in _boxes(data, meta.start + 4, meta.end):
        if box.kind == b"iprp":
            yield from _boxes(data, box.start, box.end)


def _properties(data: bytes, meta: _Box) -> Iterator[_Box]:
    for part in _parts(data, meta):
        if part.kind == b"ipco":
            yield from _boxes(data, part.start, part.end)


def _turns(data: bytes, prop: _Box) -> bool:
    """Whether a property turns or mirrors an image, which the decoder does."""
    return prop.kind == b"imir" or (prop.kind == b"irot" and data[prop.start] & 3 != 0)


def _only(data: bytes, start: int, end: int, kind: bytes) -> _Box:
    for box in _boxes(data, start, end, open_ended=kind == b"meta"):
        if box.kind == kind:
            return box
    raise damaged("AVIF", f"it has no box {kind.decode()}")


def _boxes(data: bytes, start: int, end: int, open_ended: bool = False) -> Iterator[_Box]:
    """Of those that are in each other, each has to end before the one around it does."""
    number = 0
    while start + 8 <= end:
        number += 1
        if number > _BOXES:
            raise _too_many("boxes")
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        elif size == 0:
            size = end - start
        if open_ended:
            size = min(size, end - start)
        if not header <= size <= end - start:
            raise ValueError("a box reaches beyond the one it is in")
        yield _Box(kind, start, start + header, start + size)
        start += size


def _infos(data: bytes, iinf: _Box) -> Iterator[tuple[int, bytes, int]]:
    """Every item's number, type, and where the type is."""
    start = iinf.start + (6 if data[iinf.start] == 0 else 8)  # version, flags and a count
    for box in _boxes(data, start, iinf.end):
        if box.kind == b"infe" and data[box.start] >= 2:
            wide = data[box.start] > 2  # version 3 has numbers of 32 bits
            number, _, kind = struct.unpack_from(">IH4s" if wide else ">HH4s", data, box.start + 4)
            yield number, kind, box.start + (10 if wide else 8)


def _locations(data: bytes, iloc: _Box) -> Iterator[_Item]:
    position = iloc.start

    def take(size: int) -> int:
        nonlocal position
        position += size
        if position > iloc.end:
            raise ValueError("iloc is too short")
        return int.from_bytes(data[position - size : position], "big")

    version = take(4) >> 24
    sizes = take(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    items, extents = take(2 if version < 2 else 4), 0
    for _ in range(items):
        number = take(2 if version < 2 else 4)
        method = take(2) & 15 if version else 0
        take(2)  # data reference
        base = take(base_size)
        count = take(2)
        extents += 1 + count
        if extents > 2 * _BOXES:
            raise _too_many("items")
        places = []
        for _ in range(count):
            take(index_size if version else 0)
            places.append((base + take(offset_size), take(length_size)))
        yield _Item(number, method, places)


def _stream(data: bytes, item: _Item, idat: _Box | None) -> bytes:
    parts, total = [], 0
    for offset, length in item.extents:
        if item.method > 1 or (item.method and not idat):
            raise ValueError("an item made of items")
        start = offset + (idat.start if item.method and idat else 0)
        if start + length > len(data):
            raise damaged("AVIF", f"of {length} bytes of pixels, {start + length - len(data)} are missing")
        parts.append(data[start : start + (length or len(data))])
        total += len(parts[-1])
        if total > len(data):
            raise ValueError("an item is longer than the file")
    return b"".join(parts)


def _associations(data: bytes, ipma: _Box) -> Iterator[tuple[int, list[int]]]:
    """Items, and the numbers of their properties, from 1 on."""
    version, wide = data[ipma.start], data[ipma.start + 3] & 1
    (entries,) = struct.unpack_from(">I", data, ipma.start + 4)
    if entries > _BOXES or ipma.end - ipma.start > 4 * _REFERENCES:
        raise _too_many("properties of items")
    position, total = ipma.start + 8, 0
    for _ in range(entries):
        (item,) = struct.unpack_from(">H" if version < 1 else ">I", data, position)
        position += 2 if version < 1 else 4
        count = data[position]
        total += count
        if total > _REFERENCES:
            raise _too_many("properties of items")
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", data, position + 1)
        yield item, [number & (0x7FFF if wide else 0x7F) for number in numbers]
        position += 1 + count * (2 if wide else 1)


def _references(data: bytes, iref: _Box) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Kind, the item that refers, and those that it refers to."""
    if iref.end - iref.start > 4 * _REFERENCES:
        raise _too_many("references")
    number = "I" if data[iref.start] else "H"
    for box in _boxes(data, iref.start + 4, iref.end):
        item, count = struct.unpack_from(f">{number}H", data, box.start)
        yield box.kind, item, struct.unpack_from(f">{count}{number}", data, box.start + struct.calcsize(f">{number}H"))


def _check_work(data: bytes, meta: _Box, properties: list[_Box], max_pixels: int) -> None:
    """Raise ImageTooLarge if the primary item is made of far more pixels than it announces, or turned again and again.

    The decoder decodes an item as often as others are made of it.
    """
    pixels = _pixels(data, meta, properties)
    primary, made_of, alphas = _derivations(data, meta)
    known: dict[int, int] = {}

    def work(item: int, depth: int = 0) -> int:
        if depth > _DEPTH:
            raise _too_many("images made of images")
        if item not in known:
            parts = made_of.get(item)
            own = sum(work(part, depth + 1) for part in parts) if parts else pixels.get(item, 0)
            known[item] = own + max((work(alpha, depth + 1) for alpha in alphas.get(item, ())), default=0)
        return known[item]

    if work(primary) > min(_CODED * pixels.get(primary, max_pixels) + 2**20, 3 * max_pixels):
        raise ImageTooLarge("the image is made of far more pixels than it announces", reason="pixels")


def _pixels(data: bytes, meta: _Box, properties: list[_Box]) -> dict[int, int]:
    """What each item announces. Raises ImageTooLarge if one is to be turned too often."""
    pixels: dict[int, int] = {}
    turns: Counter[int] = Counter()
    for part in _parts(data, meta):
        for item, numbers in _associations(data, part) if part.kind == b"ipma" else ():
            for prop in (properties[number - 1] for number in numbers if 0 < number <= len(properties)):
                turns[item] += prop.kind in (b"clap", b"irot", b"imir")
                if prop.kind == b"ispe":
                    width, height = struct.unpack_from(">II", data, prop.start + 4)
                    pixels[item] = max(pixels.get(item, 0), width * height)
    if max(turns.values(), default=0) > _TURNS:
        raise _too_many("rotations, mirrorings and crops of one item")
    return pixels


def _derivations(data: bytes, meta: _Box) -> tuple[int, dict[int, list[int]], dict[int, list[int]]]:
    """The primary item, what each item is made of, and the alpha channels and the like that each has."""
    primary = 0
    made_of: dict[int, list[int]] = {}
    alphas: dict[int, list[int]] = {}
    for box in _boxes(data, meta.start + 4, meta.end):
        if box.kind == b"pitm":
            (primary,) = struct.unpack_from(">I" if data[box.start] else ">H", data, box.start + 4)
        for kind, item, others in _references(data, box) if box.kind == b"iref" else ():
            if kind == b"dimg":
                made_of.setdefault(item, []).extend(others)
            elif kind == b"auxl":
                for other in others:
                    alphas.setdefault(other, []).append(item)
    return primary, made_of, alphas


def _too_many(what: str) -> ImageTooLarge:
    return ImageTooLarge(f"the image file has too many {what}", reason="pieces")
