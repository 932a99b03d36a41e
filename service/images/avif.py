"""What of an AVIF is decoded, and the pixels that its AV1 streams hold, which need not be those that it announces.

Boxes: ISO/IEC 14496-12 and 23008-12; streams: the AV1 bitstream specification, section 5.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # OBU types


def still(data: bytes) -> bytes:
    """The file as one of a still image: its primary item, which of a sequence is the first frame.

    Of a file with tracks and another major brand, libavif decodes those (avifDecoderSource), which nothing here bounds.
    """
    return data if data[8:12] == b"avif" else data[:8] + b"avif" + data[12:]


def coded_pixels(data: bytes) -> int:
    """Pixels of all frames of all AV1 items, as their sequence headers bound them.

    The decoder decodes what the stream says before it compares that with the container. Raises ValueError,
    IndexError or struct.error if the file is damaged.
    """
    meta = next(_boxes(data, 0, len(data), b"meta"))
    inside = meta.start + 4  # version and flags
    coded = {item for box in _boxes(data, inside, meta.end, b"iinf") for item in _coded_items(data, box.start, box.end)}
    idat = next(_boxes(data, inside, meta.end, b"idat"), None)
    pixels = 0
    for box in _boxes(data, inside, meta.end, b"iloc"):
        for item, stream in _streams(data, box, idat):
            if item in coded:
                pixels += _pixels_of(stream)
    return pixels


@dataclass(frozen=True)
class _Box:
    start: int  # of its payload
    end: int


def _boxes(data: bytes, start: int, end: int, wanted: bytes) -> Iterator[_Box]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        elif size == 0:
            size = end - start
        if not header <= size <= end - start:
            raise ValueError("a box reaches beyond the one it is in")
        if kind == wanted:
            yield _Box(start + header, start + size)
        start += size


def _coded_items(data: bytes, start: int, end: int) -> Iterator[int]:
    start += 6 if data[start] == 0 else 8  # version, flags and a count
    for box in _boxes(data, start, end, b"infe"):
        wide = data[box.start] > 2  # version 3 has items of 32 bits
        item, _, kind = struct.unpack_from(">IH4s" if wide else ">HH4s", data, box.start + 4)
        if kind == b"av01":
            yield item


def _streams(data: bytes, iloc: _Box, idat: _Box | None) -> Iterator[tuple[int, bytes]]:
    """Every item and its bytes."""
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
    for _ in range(take(2 if version < 2 else 4)):
        item = take(2 if version < 2 else 4)
        method = take(2) & 15 if version else 0
        take(2)  # data reference
        base = take(base_size)
        stream = b""
        for _ in range(take(2)):
            take(index_size if version else 0)
            start = base + take(offset_size)
            length = take(length_size) or len(data)
            if method == 1 and idat:
                start += idat.start
            elif method:
                raise ValueError("items made of items")
            stream += data[start : start + length]
            if len(stream) > len(data):
                raise ValueError("an item is longer than the file")
        yield item, stream


def _pixels_of(stream: bytes) -> int:
    position, largest, frames = 0, 0, 0
    while position < len(stream):
        header = stream[position]
        position += 2 if header & 4 else 1  # with an extension, or without
        size = len(stream) - position
        if header & 2:  # a size of its own
            size, shift = 0, 0
            while True:
                byte = stream[position]
                position += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        kind = header >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            largest = max(largest, _sequence_pixels(stream[position : position + size]))
        frames += kind in (_FRAME_HEADER, _FRAME)
        position += size
    return largest * max(1, frames)


def _sequence_pixels(header: bytes) -> int:
    """AV1 specification, section 5.5.1: max_frame_width times max_frame_height."""
    bits, left = int.from_bytes(header[:256], "big"), 8 * min(256, len(header))

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise ValueError("the sequence header is too short")
        return bits >> left & ((1 << count) - 1)

    take(4)  # profile, still picture
    if take(1):  # reduced still picture header
        take(5)
    else:
        delay_bits = 0
        if take(1):  # timing info
            take(64)
            if take(1):  # equal picture interval: Exp-Golomb ticks
                zeros = 0
                while not take(1):
                    zeros += 1
                take(zeros)
            if take(1):  # decoder model info
                delay_bits = take(5) + 1
                take(42)
        display_delay = take(1)
        for _ in range(take(5) + 1):  # operating points
            take(12)
            if take(5) > 7:  # level, which may have a tier
                take(1)
            if delay_bits and take(1):
                take(2 * delay_bits + 1)
            if display_delay and take(1):
                take(4)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return (take(width_bits) + 1) * (take(height_bits) + 1)
