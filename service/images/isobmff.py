"""AVIF and HEIC: the boxes that decide the pixels of the primary image, and bounds on how many of anything there are.

ISO/IEC 14496-12 (boxes), 23008-12 (images as items).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import ImageTooLarge, UnsupportedImage
from service.images import av1
from service.images.stripped import Stripped, damaged

_BOXES = 1000  # of one kind in one box; the tiles of a telephone's largest photograph are 192 items
_REFERENCES = 8 * _BOXES  # of items to items and to properties
_FILM = (b"moov", b"moof", b"mfra")
_PIXEL_ITEMS = (b"av01", b"hvc1", b"grid", b"iden", b"iovl")
_CODED = 8  # times its pixels in one AVIF's streams, and a million: colours, alpha, thumbnail, tiles that overhang


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


def strip(data: bytes, format_: str) -> Stripped:
    """The file as one of a still image, in which films and items that are no images are named as free space.

    The decoders' work can be quadratic in items, and of a file with tracks they may decode those: what is there is
    counted here, in linear time. Sizes are the decoder's to tell.

    Raises:
        ImageTooLarge: more items, properties or references than any photograph has.
        UnsupportedImage: a crop that the decoder would leave out.
        InvalidImage: damaged, or cut short within these boxes.
    """
    try:
        file, turned = _strip(data, b"avif" if format_ == "AVIF" else b"heic")
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


def _strip(data: bytes, brand: bytes) -> tuple[bytes, bool]:
    file, turned = bytearray(data), False
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
            for at in _metadata(data, box):
                file[at : at + 4] = b"free"
            properties = list(_properties(data, box))
            if brand == b"avif" and any(prop.kind == b"clap" for prop in properties):
                raise UnsupportedImage("an AVIF with a crop (clean aperture) is not accepted", reason="variant")
            turned = any(_turns(data, prop) for prop in properties)
    return bytes(file), turned


def _metadata(data: bytes, meta: _Box) -> Iterator[int]:
    """Where the types of items that are no images are."""
    for box in _boxes(data, meta.start + 4, meta.end):
        if box.kind == b"iinf":
            yield from (at for _, kind, at in _infos(data, box) if kind not in _PIXEL_ITEMS)
        elif box.kind == b"iloc":
            for _ in _locations(data, box):
                pass
        elif box.kind == b"iprp":
            for part in _boxes(data, box.start, box.end):
                if part.kind == b"ipma":
                    _count_associations(data, part)
        elif box.kind == b"iref":
            if box.end - box.start > 4 * _REFERENCES:
                raise _too_many("references")
            for _ in _boxes(data, box.start + 4, box.end):
                pass


def _properties(data: bytes, meta: _Box) -> Iterator[_Box]:
    for box in _boxes(data, meta.start + 4, meta.end):
        for part in _boxes(data, box.start, box.end) if box.kind == b"iprp" else ():
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
    stream = b""
    for offset, length in item.extents:
        if item.method > 1 or (item.method and not idat):
            raise ValueError("an item made of items")
        start = offset + (idat.start if item.method and idat else 0)
        if start + length > len(data):
            raise damaged("AVIF", f"of {length} bytes of pixels, {start + length - len(data)} are missing")
        stream += data[start : start + (length or len(data))]
        if len(stream) > len(data):
            raise ValueError("an item is longer than the file")
    return stream


def _count_associations(data: bytes, ipma: _Box) -> None:
    version, wide = data[ipma.start], data[ipma.start + 3] & 1
    (entries,) = struct.unpack_from(">I", data, ipma.start + 4)
    if entries > _BOXES or ipma.end - ipma.start > 4 * _REFERENCES:
        raise _too_many("properties of items")
    position, total = ipma.start + 8, 0
    for _ in range(entries):
        position += 2 if version < 1 else 4
        total += data[position]
        position += 1 + data[position] * (2 if wide else 1)
    if total > _REFERENCES:
        raise _too_many("properties of items")


def _too_many(what: str) -> ImageTooLarge:
    return ImageTooLarge(f"the image file has too many {what}", reason="pieces")
