import json
import random

import numpy as np
import pytest

from service.api.v2.number_list import MisshapenError, NumberList, cut_out

SHAPE = (2, 2, 3)
NUMBERS = list(range(100, 112))
NESTED = np.reshape(NUMBERS, SHAPE).tolist()


@pytest.mark.parametrize("data", [NUMBERS, NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("indent", [None, 0, 3])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 2**17])
def test_numbers_in_any_layout_read_in_pieces(
    data: list[object], indent: int | None, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.v2.number_list._PIECE", piece)
    assert NumberList(json.dumps(data, indent=indent).encode()).small_integers(SHAPE) == bytes(NUMBERS)


def test_a_flat_list_may_have_another_length() -> None:
    assert NumberList(b"[]").small_integers(SHAPE) == b""
    assert NumberList(b"[ ]").small_integers(SHAPE) == b""
    assert NumberList(b"[1,2]").small_integers(SHAPE) == b"\1\2"


@pytest.mark.parametrize("piece", [1, 2, 5, 2**17])
@pytest.mark.parametrize(
    "text",
    [
        "[[1,2,3],[4,5,6]]",
        "[[[1,2,3],[4,5,6]],[[7,8,9],[10,11]]]",
        "[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]",
        "[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]],]",
        "[[[1,2,3],[4,5,6]]],[[[7,8,9],[10,11,12]]]",
        "[[[1,2,3],4[,5,6]],[[7,8,9],[10,11,12]]]",
        "[[[1,2,]3,[4,5,6]],[[7,8,9],[10,11,12]]]",
        "[[[1,2,3 ]4,[ 5,6]],[[7,8,9],[10,11,12]]]",
        "[[[1,2,3],5 [4,5,6]],[[7,8,9],[10,11,12]]]",
        "[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]0",
        "[[[1,,3],[4,5,6]],[[7,8,9],[10,11,12]]]",
        "[[[1,2 2,3],[4,5,6]],[[7,8,9],[10,11,12]]]",
        "[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12 1]]]",
        "[[[,2,3]1,[4,5,6]],[[7,8,9],[10,11,12]]]",
        "[1,2,]",
        "[,]",
        "[1,,2]",
        "[1 2]",
        "[01]",
        "[1.0]",
        "[1e1]",
        "[-1]",
        "[256]",
        "[+1]",
        "[1e999]",
        "[-]",
    ],
)
def test_what_is_no_json_or_has_another_shape_or_other_numbers(
    text: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.v2.number_list._PIECE", piece)
    with pytest.raises((MisshapenError, TypeError, ValueError, OverflowError)):
        NumberList(text.encode()).small_integers(SHAPE)


def test_it_reads_what_a_json_parser_reads_and_nothing_else() -> None:
    """Of texts that differ from a right one by a character, those that are accepted are JSON, and mean the same."""
    chance = random.Random(1)
    text = json.dumps(NESTED).encode()
    accepted = 0
    for _ in range(20_000):
        at = chance.randrange(len(text))
        changed = text[:at] + chance.choice([b"", b" ", b",", b"[", b"]", b"7", b"0", b"-", b"."]) + text[at + 1 :]
        try:
            read = NumberList(changed).small_integers(SHAPE)
        except (TypeError, ValueError, OverflowError):
            continue
        accepted += 1
        assert read == np.array(json.loads(changed), np.uint8).tobytes()
    assert accepted > 1000


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (b'{"data": [1, 2]}', b'{"data": X}'),
        (b'{"data":[[1],[2]] , "a": 1}', b'{"data":X , "a": 1}'),
        (b'{"id": "data", "data": [1]}', b'{"id": "data", "data": X}'),
        (b'{"a\\"data": [1], "data": [2]}', b'{"a\\"data": [1], "data": X}'),
        (b'{"data": [], "b": 1}', b'{"data": X, "b": 1}'),
        *((text, text) for text in (
            b"", b"{}", b'{"data": 1}', b'{"data": null}', b'{"data": ["a"]}', b'{"data": [[1], "a"]}',
            b'{"data": [1, true]}', b'{"data": [1', b'{"data": [[1]}', b'{"data": {"data": 1}}',
        )),
    ],
)  # fmt: skip
def test_only_a_list_of_numbers_is_cut_out(text: bytes, rest: bytes) -> None:
    left, numbers = cut_out(text, b"X")
    assert left == rest
    assert (numbers is None) == (left == text)
