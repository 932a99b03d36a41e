"""WebP: the chunks that decide the pixels.

RFC 9649, section 2; the frames' headers: RFC 6386, section 9.1, and RFC 9649, section 3.4.
"""

import struct

from service.images import exif
from service.images.stripped import Stripped, check_size, damaged, pieces, too_many_pieces

_CHUNK = 256  # bytes, or more: a frame of an animation
_ALPHA = 0x10  # a flag of the extended header
_FRAME_HEADER = 16  # bytes of an animation's frame before its chunks


def strip(data: bytes, max_pixels: int) -> Stripped:
    """The image, or the first frame of an animation, as a file of its own; a frame's place on the canvas is told.

    Raises:
        ImageTooLarge: a canvas or a frame of more than `max_pixels`, or too many chunks.
        InvalidImage: damaged, or cut short before the end of the pixels.
    """
    found = _chunks(data, 12, len(data))
    pixels, at = found, None
    if b"ANMF" in found:
        start, end = found[b"ANMF"]
        pixels = _chunks(data, start + _FRAME_HEADER, min(end, len(data)))
        at = 2 * _three_bytes(data, start), 2 * _three_bytes(data, start + 3)
    image = next((_whole(data, name, *pixels[name]) for name in (b"VP8 ", b"VP8L") if name in pixels), None)
    if image is None:
        raise damaged("WEBP", "it has no pixels")
    width, height = canvas = _size(image)
    check_size(width, height, max_pixels)
    if b"VP8X" in found:
        start, _ = found[b"VP8X"]
        canvas = _three_bytes(data, start + 4) + 1, _three_bytes(data, start + 7) + 1
        check_size(*canvas, max_pixels)
        if at is None and canvas != (width, height):
            raise damaged("WEBP", "its two sizes differ")
    chunks = image
    if b"ALPH" in pixels and image.startswith(b"VP8 "):
        header = struct.pack("<I", _ALPHA) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        chunks = _chunk(b"VP8X", header) + _whole(data, b"ALPH", *pixels[b"ALPH"]) + image
    exif_start, exif_end = found.get(b"EXIF", (0, 0))
    orientation = exif.orientation(data[exif_start:exif_end])
    file = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    return Stripped(file, *canvas, orientation, b"ICCP" in found, at=at)


def _chunks(data: bytes, at: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Where the first of each name has its body, the end of which may be beyond the file."""
    found: dict[bytes, tuple[int, int]] = {}
    for _ in pieces(data, _CHUNK):
        start = at + 8
        if start > end:
            return found
        (length,) = struct.unpack_from("<I", data, at + 4)
        found.setdefault(data[at : at + 4], (start, start + length))
        at = start + length + length % 2
    raise too_many_pieces("WEBP")


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _whole(data: bytes, name: bytes, start: int, end: int) -> bytes:
    """A chunk of pixels."""
    if end > len(data):
        raise damaged("WEBP", f"of {end - start} bytes of pixels, {end - len(data)} are missing")
    return _chunk(name, data[start:end])


def _three_bytes(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _size(chunk: bytes) -> tuple[int, int]:
    """Of the image in a chunk VP8 or VP8L."""
    if chunk.startswith(b"VP8 ") and chunk[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", chunk.ljust(18, b"\0"), 14)
        return width & 0x3FFF, height & 0x3FFF
    if chunk.startswith(b"VP8L") and chunk[8:9] == b"\x2f":
        bits = int.from_bytes(chunk[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise damaged("WEBP", "its pixels have no header")
