"""The orientation in EXIF metadata, whatever else is in there.

Exif 2.32, section 4.6.2; its container is TIFF 6.0, section 2.
"""

import struct

_ORIENTATION = 0x0112
_ENTRIES = 1000  # of the first directory; cameras write a dozen
_FORMATS = {1: "B", 3: "H", 4: "I"}  # byte, short, long


def orientation(exif: bytes) -> int:
    """The value of the orientation tag in the first directory; 1, as stored, where there is none to be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * min(count, _ENTRIES), 12):
            tag, kind, values = struct.unpack_from(order + "HHI", exif, entry)
            if tag == _ORIENTATION:
                if kind not in _FORMATS or values != 1:
                    return 1
                return int(struct.unpack_from(order + _FORMATS[kind], exif, entry + 8)[0])
    except struct.error:  # cut short
        pass
    return 1
