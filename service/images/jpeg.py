"""JPEG: the segments that decide the pixels, and whether a file without an end has all of them.

ITU-T T.81, annex B; Adobe's marker: ITU-T T.872, section 6.5.3.
"""

import io
import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from service.errors import ImageTooLarge, UnsupportedImage
from service.images import exif
from service.images.stripped import Stripped, check_size, damaged, pieces, too_many_pieces

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_COLOURS = {_APP0: b"JFIF\0", _APP14: b"Adobe"}  # what tells how to understand the channels
_TABLES = (0xC4, 0xCC, 0xDB, 0xDD)  # Huffman, arithmetic, quantisation, restart interval
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xD8))
_DECODED = {0xC0: False, 0xC1: False, 0xC2: True, 0xC9: False, 0xCA: True}  # frames by whether they are progressive
_REFUSED = {
    0xC3: "a lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "a hierarchical JPEG"),
    0xCB: "a lossless JPEG with arithmetic coding",
    0xF7: "JPEG-LS",
}
_MARKER = re.compile(rb"\xff[^\xff]", re.DOTALL)  # the last of the fill bytes before it, and its own: in linear time
_SEGMENT = re.compile(rb"\xff[^\xff\0\1\xd0-\xd7]", re.DOTALL)  # a marker that is within no pixels
_SEQUENTIAL, _MIDDLE = (0xC0, 0xC1), {127, 128}  # frames with Huffman codes; levels, of inks the other way round
_FILL = re.compile(rb"\xff{256,}")  # more than a table has, of which decoders take each by itself
_SEGMENT_BYTES = 1024  # or more, of a segment with what follows it: encoders flush pixels less often
_SEGMENTS = 1000  # before the pixels; 16 MB of the longest are 256
_ROWS = 256  # copied at a time
_SCANS = 100  # libtiff's limit too; a progressive photograph has 10
SCAN = b"\xff\xda\0"  # its marker, and half of the length
SCANNED = 20  # times MAX_PIXELS that the scans of one file may visit
# More than the last block can have, beginning with a set bit: at an end, libjpeg goes on with zeros.
_FILLER = bytes(0xAC ^ (37 * i & 0x7F) for i in range(4000)).replace(b"\xff", b"\xfe")


class _Frame(NamedTuple):
    width: int
    height: int
    components: int
    progressive: bool


def strip(data: bytes, max_pixels: int) -> Stripped:
    """All segments but comments and applications', of which JFIF's and Adobe's tell the colours.

    Raises:
        ImageTooLarge: more pixels than `max_pixels`, or more segments or scans than any photograph has.
        UnsupportedImage: a kind of JPEG that is not decoded, by its name.
        InvalidImage: damaged, or cut short before its pixels.
    """
    kept, orientation, has_profile = [b"\xff\xd8"], 0, False
    frame: _Frame | None = None
    first_scan = len(data)
    for marker, at, end in _segments(data):
        if marker == _SCAN:
            first_scan = at
            break
        body = data[at + 4 : end]
        if marker in _DECODED:
            if frame is not None:
                raise damaged("JPEG", "it has two sizes")
            frame = _frame(body, _DECODED[marker], max_pixels)
        elif marker == _APP1 and not orientation and body.startswith(b"Exif\0\0"):
            orientation = exif.orientation(body)
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\0"):
            has_profile = True
        if marker in _DECODED or marker in _TABLES or (marker in _COLOURS and body.startswith(_COLOURS[marker])):
            kept.append(data[at:end])
    if frame is None:
        raise damaged("JPEG", "it ends before its pixels" if first_scan == len(data) else "it has pixels of no size")
    _check_scans(data, first_scan, frame, max_pixels)
    header = b"".join(kept)
    file = data if len(header) == first_scan else header + data[first_scan:]
    return Stripped(file, frame.width, frame.height, orientation or 1, has_profile)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each before the first scan, and of that one's header."""
    at = 2
    for _ in range(_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or len(data) < found.end() + 2:
            return
        at = found.end() - 2
        marker = data[at + 1]
        if marker in (_START, _END):  # of a thumbnail, for one, in a segment whose length is wrong
            raise damaged("JPEG", "its segments do not end where they say")
        if marker in _REFUSED:
            raise UnsupportedImage(f"{_REFUSED[marker]} is not accepted", reason="variant")
        end = at + 2
        if marker not in _WITHOUT_LENGTH:
            end += int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, at, end
        if marker == _SCAN:
            return
        at = end
    raise ImageTooLarge(f"the JPEG has more than {_SEGMENTS} segments before its pixels", reason="pieces")


def _frame(body: bytes, progressive: bool, max_pixels: int) -> _Frame:
    if len(body) < 6:
        raise damaged("JPEG", "it ends before its pixels")
    bits, components = body[0], body[5]
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if bits != 8:
        raise UnsupportedImage(f"a JPEG of {bits} bits a channel is not accepted", reason="samples")
    if components not in (1, 3, 4):
        raise UnsupportedImage(f"a JPEG of {components} channels is not accepted", reason="samples")
    if height == 0 and width:
        raise UnsupportedImage("a JPEG whose height follows its pixels (DNL) is not accepted", reason="variant")
    check_size(width, height, max_pixels)
    return _Frame(width, height, components, progressive)


def _check_scans(data: bytes, first: int, frame: _Frame, max_pixels: int) -> None:
    """Raise ImageTooLarge if the scans, of which at least as many are counted as there are, visit too many pixels."""
    if not frame.progressive and data[first + 4 : first + 5] == bytes([frame.components]):
        return  # the first holds them all
    scans = data.count(SCAN, first)
    if scans > _SCANS or scans * frame.width * frame.height > SCANNED * max_pixels:
        raise ImageTooLarge(f"the JPEG has {scans} scans, too many for its size", reason="scans")


def check_complete(data: bytes, last_block: bytes, scale: int) -> None:
    """Raise InvalidImage, with the number of rows that are there, if a JPEG's end comes before its last pixels.

    The decoder then goes on in the middle gray: only with a `last_block` of that, as it was decoded at 1/`scale`, is
    this looked at, and only in the usual JPEG, of one scan with Huffman codes.
    """
    if not set(last_block) <= _MIDDLE:
        return
    components = 0
    for marker, at, end in _segments(data):
        if marker in _SEQUENTIAL:
            components = data[at + 9]
        elif marker == _SCAN and data[at + 4] == components:
            after = _SEGMENT.search(data, end)
            if after:
                ended(data[: after.start()], scale)


def ended(data: bytes, scale: int = 1) -> bytes:
    """A stripped JPEG that the decoder found no end of, with one.

    The pixels, at 1/`scale`, are complete if they are the same whatever follows them: of each row a checksum is
    compared.

    Raises InvalidImage, with the number of rows that are there, if they are not.
    """
    data = _FILL.sub(b"\xff", data.rstrip(b"\xff"))  # the first half of the end, or of a marker
    end = data + b"\xff\xd9"
    height, rows = _rows(end, scale)
    _, others = _rows(data + _FILLER + b"\xff\xd9", scale)
    there = next((row * scale for row, pair in enumerate(zip(rows, others, strict=True)) if pair[0] != pair[1]), height)
    scans = data.count(SCAN)
    if there < height:
        raise damaged(
            "JPEG", f"it ends within scan {scans}" if scans > 1 else f"{there} of {height} rows of pixels are there"
        )
    if not _has_all_scans(data):
        raise damaged("JPEG", f"it ends after scan {scans}")
    return end


def _rows(data: bytes, scale: int) -> tuple[int, list[int]]:
    """The height, and a checksum of each row at 1/`scale`."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        height = image.height
        image.draft(None, (image.width // scale, height // scale))
        image.load()
        length, sums = image.width * len(image.getbands()), []
        for top in range(0, image.height, _ROWS):
            rows = memoryview(image.crop((0, top, image.width, min(top + _ROWS, image.height))).tobytes())
            sums += [zlib.crc32(rows[at : at + length]) for at in range(0, len(rows), length)]
        return height, sums


def _has_all_scans(data: bytes) -> bool:
    """Whether every coefficient of every component is told to its last bit: T.81, section B.2.3 and annex G.

    Raises ImageTooLarge if there are too many segments to look at.
    """
    untold: dict[int, set[int]] = {}
    at = 2
    for _ in pieces(data, _SEGMENT_BYTES):
        found = _SEGMENT.search(data, at)
        if found is None or found.end() + 2 > len(data):
            return not any(untold.values())
        at = found.start()
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _DECODED:
            untold = {component: set(range(64)) for component in data[at + 10 : end : 3]}
        elif marker == _SCAN:
            components = data[at + 5 : end - 3 : 2]
            first, last, bits = data[end - 3 : end]
            for component in components:
                if bits & 15 == 0:
                    untold.get(component, set()).difference_update(range(first, last + 1))
        at = end
    raise too_many_pieces("JPEG")
