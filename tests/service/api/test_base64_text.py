import base64
import random

import pytest

from service.api.base64_text import decode_base64

DATA = bytes(range(256))
STANDARD = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()
WRAPPED = base64.encodebytes(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        STANDARD,
        URL_SAFE,
        STANDARD.rstrip("="),
        URL_SAFE.rstrip("="),
        WRAPPED,
        WRAPPED.replace("\n", "\r\n"),
        f" \t{STANDARD}\n",
        " ".join(STANDARD),
        f"data:image/png;base64,{STANDARD}",
        f"data:;base64,{URL_SAFE}",
        f"DATA:image/png;charset=utf-8;BASE64,{STANDARD}",
        f"\n data:image/png;base64,\n{WRAPPED}",
    ],
)
def test_however_a_client_writes_it(text: str) -> None:
    assert decode_base64(text) == DATA
    if "data:" not in text.lower():
        assert decode_base64(text.encode()) == DATA


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 196_607, 196_608, 196_609, 1_000_001])
def test_of_any_length(length: int) -> None:
    data = random.Random(length).randbytes(length)
    for text in (base64.b64encode(data), base64.encodebytes(data), base64.urlsafe_b64encode(data).rstrip(b"=")):
        assert decode_base64(text) == data


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("%%%%", "not base64"),
        ("é" * 4, "not base64"),
        ("QUJD\0", "missing"),
        ("QUJDR", "missing"),
        (STANDARD.replace("+", " "), "spaces and no +"),
        ("QUJDQQ=QUJD", "not base64"),  # one behind another
        (STANDARD[:50] + "*" + STANDARD[51:], "not base64"),
        ("A" * 2**18 + "****", "not base64"),
        ("data:image/png;base64" + STANDARD, "not base64"),
        ("data:image/png,%89PNG", "the data: URL is not in base64"),
        ("data:,", "the data: URL is not in base64"),
    ],
)
def test_what_it_is_not(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decode_base64(text)
