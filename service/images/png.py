"""PNG: the chunks that decide the pixels.

Portable Network Graphics (Third Edition), https://www.w3.org/TR/png-3/, section 5.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from service.errors import ImageTooLarge, UnsupportedImage
from service.images import exif
from service.images.stripped import Samples, Stripped, check_size, damaged, pieces, too_many_pieces

_CHUNK = 1024  # bytes, or more: encoders' pixels come by 8 kB
_DEPTH, _COLOUR_TYPE, _INTERLACED, _PALETTE = 8 + 8, 8 + 9, 8 + 12, 3  # places in the chunk of the header, and a value
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type
# Of each pass of an interlaced image: its first column and row, and the distance to the next (section 8.1).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_EMPTY = 2**20  # bytes of blocks without pixels, and of what follows them
_INFLATED, _DEFLATED = 2**20, 2**16  # bytes at a time
_GRAY, _GRAY_ALPHA, _RGB_ALPHA = 0, 4, 6
_DECIDING = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


class _Chunk(NamedTuple):
    name: bytes
    whole: memoryview
    body: memoryview
    missing: int  # bytes of its body that are beyond the end of the file

    def is_intact(self) -> bool:
        """By its checksum, of which some or all may be cut off at the end of a file: pixels have one of their own."""
        told = self.whole[8 + len(self.body) :]
        return len(told) < 4 or zlib.crc32(self.whole[4:-4]) == int.from_bytes(told, "big")


def strip(data: bytes, max_pixels: int) -> Stripped:
    """The header, palette, transparent colour and pixels; the pixels in one chunk, of an animation the first image.

    Raises:
        ImageTooLarge: more pixels than `max_pixels`, too many chunks, or far more bytes than the pixels can take.
        UnsupportedImage: Apple's variant of PNG, or a chunk that must be understood and is not.
        InvalidImage: one of these chunks is missing, cut short or fails its checksum.
    """
    kept: dict[bytes, memoryview] = {}
    pixels: list[memoryview] = []
    orientation, has_profile = 0, False
    for chunk in _chunks(data):
        if chunk.name in _DECIDING:
            _check(chunk)
            if chunk.name == b"IDAT":
                pixels.append(chunk.body)
            elif not pixels:
                kept.setdefault(chunk.name, chunk.whole)
        elif chunk.missing:
            break  # without an end, which holds nothing, the pixels may be complete all the same
        elif chunk.name == b"iCCP":
            has_profile = True
        elif chunk.name == b"eXIf" and not orientation and chunk.is_intact():
            orientation = exif.orientation(bytes(chunk.body))
        elif chunk.name[:1].isupper():
            what = "Apple's own variant of PNG" if chunk.name == b"CgBI" else "a PNG with a chunk of unknown meaning"
            raise UnsupportedImage(f"{what} ({chunk.name.decode()}) is not accepted", reason="variant")
    header = kept.get(b"IHDR", memoryview(b""))
    if len(header) < 8 + 13 or not pixels:
        raise damaged("PNG", "it has no pixels")
    width, height = struct.unpack_from(">II", header, 8)
    check_size(width, height, max_pixels)
    deflated, inflated = sum(map(len, pixels)), _inflated_bytes(header)
    if deflated > inflated * 9 // 8 + _EMPTY:
        raise ImageTooLarge(f"the PNG has {deflated} bytes for {inflated} bytes of pixels", reason="pieces")
    samples = _samples(header, kept.get(b"tRNS", memoryview(b""))[8:-4])
    colours = (len(kept.get(b"PLTE", b"")) - 12) // 3 if samples.colours == "palette" else 0
    if colours < 0:
        raise damaged("PNG", "it has no palette")
    parts: tuple[bytes | memoryview, ...] = (
        *(kept[name] for name in (b"IHDR", b"PLTE") if name in kept),
        # Of a length that fits nothing it says nothing, as libpng has it.
        kept.get(b"tRNS", b"") if samples.transparent or samples.colours == "palette" else b"",
        struct.pack(">I", deflated) + b"IDAT",
        *pixels,
        b"\0\0\0\0",  # of the checksum, which the decoder does not look at
        _END,
    )
    file = _SIGNATURE + b"".join(parts)
    return Stripped(file, width, height, orientation or 1, has_profile, colours=colours, samples=samples)


def check_complete(file: bytes, last_row: bytes) -> None:
    """Raise InvalidImage if the pixels of a stripped file have an end before the last: the decoder leaves zeros there.

    They are counted where the image is interlaced, or its `last_row`, as it was decoded, is nothing but zeros.
    """
    header = memoryview(file)[8:]
    if any(last_row) and not header[_INTERLACED]:
        return
    whole = missing = _inflated_bytes(header)
    inflater = zlib.decompressobj()
    pixels = next(chunk.body for chunk in _chunks(file) if chunk.name == b"IDAT")
    for at in range(0, len(pixels), _DEFLATED):
        piece: bytes | memoryview = pixels[at : at + _DEFLATED]
        while piece and missing > 0:
            missing -= len(inflater.decompress(piece, _INFLATED))
            piece = inflater.unconsumed_tail
        if inflater.eof:  # what follows would be kept, and copied with every further piece
            break
    if missing > 0:
        raise damaged("PNG", f"of {whole} bytes of pixels, {missing} are missing")


def _inflated_bytes(header: memoryview) -> int:
    """Of the rows of all passes, each with its filter (sections 7.2 and 8.1)."""
    width, height, depth, colour_type = struct.unpack_from(">IIBB", header, 8)
    bits, total = depth * _SAMPLES.get(colour_type, 0), 0
    for left, top, across, down in _PASSES if header[_INTERLACED] else ((0, 0, 1, 1),):
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        total += rows * (1 + (columns * bits + 7) // 8) * (columns > 0)
    return total


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Up to the end of the image, or the bytes that are no chunk."""
    file, at = memoryview(data), len(_SIGNATURE)
    for _ in pieces(data, _CHUNK):
        start = at + 8
        name = data[at + 4 : start]
        if name == b"IEND" or not name.isalpha():
            return
        end = start + int.from_bytes(file[at : at + 4], "big")
        yield _Chunk(name, file[at : end + 4], file[start:end], max(0, end - len(data)))
        at = end + 4
    raise too_many_pieces("PNG")


def _check(chunk: _Chunk) -> None:
    if chunk.missing:
        length = len(chunk.body) + chunk.missing
        raise damaged("PNG", f"of {length} bytes in its last chunk, {chunk.missing} are missing")
    if not chunk.is_intact():
        raise damaged("PNG", f"a chunk {chunk.name.decode()} fails its checksum")


def _samples(header: memoryview, transparent: memoryview) -> Samples:
    colour_type, depth = header[_COLOUR_TYPE], header[_DEPTH]
    alpha = "straight" if colour_type in (_GRAY_ALPHA, _RGB_ALPHA) else None
    colours = {_PALETTE: "palette", _GRAY: "gray", _GRAY_ALPHA: "gray"}.get(colour_type, "rgb")
    count = {"gray": 1, "rgb": 3}.get(colours, 0)
    if count == 0 or alpha or len(transparent) < 2 * count:
        return Samples(colours, alpha, depth)
    # Bits beyond the depth are to be masked: section 11.3.1.1.
    levels = (level & (2**depth - 1) for level in struct.unpack_from(f">{count}H", transparent))
    return Samples(colours, alpha, depth, tuple(levels))
