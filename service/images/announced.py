"""What an encoded image says of itself in its first bytes, read in a few steps and without a decoder.

The front asks this of every image, to forecast what decoding it takes. Nothing else is decided by it.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

Order = Literal["little", "big"]

_MOST_SEGMENTS = 64  # of a JPEG, before its size
_MOST_BOXES = 64  # of an AVIF or HEIC in another, before the one that is looked for
_MOST_DIRECTORIES, _MOST_ENTRIES = 4, 32  # of a TIFF; tags are in order, so those of the size are among the first
_TIFF: dict[bytes, Order] = {b"II*\0": "little", b"MM\0*": "big"}
_SUBFILE, _OLD_SUBFILE, _WIDTH, _LENGTH, _REDUCED = 254, 255, 256, 257, 2
_WHOLE = {3: 2, 4: 4}  # bytes of the types SHORT and LONG


class Announced(NamedTuple):
    """A format's name, and width times height; 0 pixels where they are not found."""

    format: str
    pixels: int


def announced(data: bytes | memoryview) -> Announced:
    """Of every accepted format the size too; of anything else the name that its first bytes suggest."""
    head = bytes(data[:32])
    if head.startswith(b"\xff\xd8"):
        return Announced("JPEG", _jpeg_pixels(data))
    if head.startswith(b"\x89PNG"):
        return Announced("PNG", _product(head[16:20], head[20:24], "big"))
    if head.startswith(b"GIF8"):
        return Announced("GIF", _product(head[6:8], head[8:10], "little"))
    if head.startswith(b"BM"):
        return Announced("BMP", _bmp_pixels(head))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Announced("WEBP", _webp_pixels(head))
    return _of_directories_or_boxes(data, head)


def _of_directories_or_boxes(data: bytes | memoryview, head: bytes) -> Announced:
    if head[:4] in _TIFF:
        return Announced("TIFF", _tiff_pixels(data, _TIFF[head[:4]]))
    if head[4:8] == b"ftyp":
        return Announced("HEIC" if head[8:11] == b"hei" else "AVIF", _isobmff_pixels(data))
    return Announced("other", 0)


def _tiff_pixels(data: bytes | memoryview, order: Order) -> int:
    """Of the first directory that is of no thumbnail or mask (TIFF 6.0, sections 2 and 8)."""
    at = _number(data[4:8], order)
    for _ in range(_MOST_DIRECTORIES):
        count = _number(data[at : at + 2], order)
        told: dict[int, int] = {}
        for entry in range(at + 2, at + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            tag, kind = _number(data[entry : entry + 2], order), _number(data[entry + 2 : entry + 4], order)
            if kind in _WHOLE:
                told.setdefault(tag, _number(data[entry + 8 : entry + 8 + _WHOLE[kind]], order))
        if not told.get(_SUBFILE, 0) & 0b101 and told.get(_OLD_SUBFILE, 1) != _REDUCED:
            return told.get(_WIDTH, 0) * told.get(_LENGTH, 0)
        following = at + 2 + 12 * count
        at = _number(data[following : following + 4], order)
    return 0


def _number(part: bytes | memoryview, order: Order) -> int:
    return int.from_bytes(part, order)


def _isobmff_pixels(data: bytes | memoryview) -> int:
    """The most of any item, of which some may be tiles or thumbnails (ISO/IEC 23008-12, sections 6.5.3 and 9.3)."""
    most, start, end = 0, 0, len(data)
    for kind in (b"meta", b"iprp", b"ipco"):
        found = next((box for box in _boxes(data, start, end) if box[0] == kind), None)
        if not found:
            return 0
        start, end = found[1] + 4 * (kind == b"meta"), found[2]
    properties = list(_boxes(data, start, end))
    if len(properties) == _MOST_BOXES:  # and perhaps more of them
        return 0
    for kind, at, _ in properties:
        if kind == b"ispe":
            most = max(most, _product(bytes(data[at + 4 : at + 8]), bytes(data[at + 8 : at + 12]), "big"))
    return most


def _boxes(data: bytes | memoryview, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where its payload begins and ends (ISO/IEC 14496-12, section 4.2)."""
    for _ in range(_MOST_BOXES):
        size, header = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        if size < header or at + header > end:
            return
        yield bytes(data[at + 4 : at + 8]), at + header, min(at + size, end)
        at += size


def _product(width: bytes, height: bytes, order: str) -> int:
    return int.from_bytes(width, order) * int.from_bytes(height, order)  # type: ignore[arg-type]


def _signed(number: bytes) -> int:
    return int.from_bytes(number, "little", signed=True)


def _bmp_pixels(head: bytes) -> int:
    """From OS/2's header, of 12 bytes, or from Windows', whose height is negative where rows begin at the top."""
    if head[14:18] == b"\x0c\0\0\0":
        return _product(head[18:20], head[20:22], "little")
    return abs(_signed(head[18:22]) * _signed(head[22:26]))


def _jpeg_pixels(data: bytes | memoryview) -> int:
    """From the frame header, SOF (ITU-T T.81, B.2.2), which has a marker of C0 to CF but C4, C8 and CC."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        segment = bytes(data[at : at + 9])
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        if 0xC0 <= segment[1] <= 0xCF and segment[1] not in (0xC4, 0xC8, 0xCC):
            return _product(segment[7:9], segment[5:7], "big")
        # Any number of bytes FF may fill the space before a marker (B.1.1.2).
        at += 1 if segment[1] == 0xFF else 2 + int.from_bytes(segment[2:4], "big")
    return 0


def _webp_pixels(head: bytes) -> int:
    """From the first chunk: lossy, lossless or extended (RFC 9649, sections 2.5 to 2.7)."""
    kind = head[12:16]
    if kind == b"VP8 ":
        return (int.from_bytes(head[26:28], "little") & 0x3FFF) * (int.from_bytes(head[28:30], "little") & 0x3FFF)
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        return (int.from_bytes(head[24:27], "little") + 1) * (int.from_bytes(head[27:30], "little") + 1)
    return 0
