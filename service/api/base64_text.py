"""Base64 as clients write it: standard or URL-safe, padded or not, wrapped into lines, or as a data: URL."""

import binascii
import re

_DATA_URL = re.compile(r"\s{0,64}data:([^,]{0,256}),", re.IGNORECASE)  # RFC 2397
_STANDARD = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5 -> section 4
_BLANKS = b" \t\r\n"
_PIECE = 2**18  # characters, a multiple of four: whoever decodes lets others run in between


def decode_base64(text: str | bytes) -> bytes:
    """The bytes that `text` stands for; ValueError, whose words a client may read, where it stands for none."""
    if isinstance(text, str):
        text = _without_prefix(text)
    if b" " in text and b" " in text.strip() and b"+" not in text and b"-" not in text:
        raise ValueError("it has spaces and no +: whoever decoded a form made the one of the other")
    pieces = (text[start : start + _PIECE].translate(_STANDARD, _BLANKS) for start in range(0, len(text), _PIECE))
    digits = b"".join(pieces).rstrip(b"=")
    if len(digits) % 4 == 1:
        raise ValueError("its length is that of no base64: some of it is missing")
    digits += b"=" * (-len(digits) % 4)
    try:
        return b"".join(
            binascii.a2b_base64(digits[start : start + _PIECE], strict_mode=True)
            for start in range(0, len(digits), _PIECE)
        )
    except binascii.Error:
        raise ValueError("it has characters that are not base64") from None


def _without_prefix(text: str) -> bytes:
    if data_url := _DATA_URL.match(text):
        if not data_url[1].lower().endswith(";base64"):
            raise ValueError("the data: URL is not in base64")
        text = text[data_url.end() :]
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError("it has characters that are not base64") from None
