"""The pixels that an AV1 stream holds, which need not be those that its container announces.

AV1 Bitstream & Decoding Process Specification, section 5.
"""

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # OBU types
_UNITS = 1000  # of one item; a still image has three, and one for each group of tiles


def pixels(stream: bytes) -> int:
    """Of all frames of a stream, as its sequence headers bound them.

    Raises ValueError or IndexError if it is damaged.
    """
    position, largest, frames, units = 0, 0, 0, 0
    while position < len(stream):
        units += 1
        if units > _UNITS:
            raise ValueError("too many units for a still image")
        header = stream[position]
        position += 2 if header & 4 else 1  # with an extension, or without
        size = len(stream) - position
        if header & 2:  # a size of its own
            size = 0
            for shift in range(0, 56, 7):
                byte = stream[position]
                position += 1
                size |= (byte & 127) << shift
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
