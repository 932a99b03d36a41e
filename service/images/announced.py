"""What an encoded image says of itself in its first bytes, read in a few steps and without a decoder.

The front asks this of every image, to forecast what decoding it takes. Nothing else is decided by it.
"""

from typing import NamedTuple

_MOST_SEGMENTS = 64  # of a JPEG, before its size


class Announced(NamedTuple):
    """A format's name, and width times height; 0 pixels where they are not found."""

    format: str
    pixels: int


def announced(data: bytes | memoryview) -> Announced:
    """Of PNG, JPEG, GIF, BMP and WebP the size too; of anything else the name that its first bytes suggest."""
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
    return Announced(_name_of_another(head), 0)


def _name_of_another(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "HEIC" if head[8:11] == b"hei" else "AVIF"
    return "TIFF" if head[:2] in (b"II", b"MM") else "other"


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
