import gzip
import random
import tracemalloc
import zlib

import pytest

from service.api import inflate as inflating
from service.errors import MalformedRequest, PayloadTooLarge, UnsupportedEncoding

BODY = bytes(range(256)) * 40


def inflate(body: bytes, encoding: str, most: int) -> bytes:
    return b"".join(inflating.inflate(body, encoding, most))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        ("gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:99]) + gzip.compress(b"") + gzip.compress(BODY[99:])),
        ("gzip", gzip.compress(BODY) + gzip.compress(b"") * 999),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY, 9)),
        ("deflate", raw_deflate(BODY)),
    ],
)
def test_what_was_compressed_comes_back(encoding: str, compressed: bytes) -> None:
    assert inflate(compressed, encoding, len(BODY)) == BODY


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]
)
def test_the_inflated_size_is_bounded_to_the_byte(encoding: str, compress) -> None:  # type: ignore[no-untyped-def]
    assert len(inflate(compress(b"x" * 1000), encoding, 1000)) == 1000
    with pytest.raises(PayloadTooLarge, match="inflated body exceeds 999 bytes"):
        inflate(compress(b"x" * 1000), encoding, 999)


def test_members_share_the_bound() -> None:
    half = gzip.compress(b"x" * 500)
    assert inflate(half + half, "gzip", 1000) == b"x" * 1000
    with pytest.raises(PayloadTooLarge, match="inflated body exceeds 999 bytes"):
        inflate(half + half, "gzip", 999)


def test_members_may_lie_anywhere_in_a_long_body() -> None:
    noise = [random.Random(seed).randbytes(150_000) for seed in range(8)]
    assert inflate(b"".join(map(gzip.compress, noise)), "gzip", 10**7) == b"".join(noise)


@pytest.mark.parametrize(("size", "members"), [(200 * 2**20, 1), (2**18, 800)])
def test_a_bomb_takes_no_more_memory_than_the_limit(size: int, members: int) -> None:
    bomb = gzip.compress(bytes(size)) * members
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            inflate(bomb, "gzip", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("gzip", b"", "truncated"),
        ("deflate", b"", "truncated"),
        ("gzip", b"not compressed", "not intact gzip data"),
        ("deflate", b"not compressed", "not intact deflate data"),
        ("gzip", zlib.compress(BODY), "not intact gzip data"),
        ("gzip", gzip.compress(BODY)[:-9], "truncated"),
        ("deflate", zlib.compress(BODY)[:-1], "truncated"),
        ("gzip", gzip.compress(BODY)[:-1] + b"\1", "not intact gzip data"),
        ("gzip", gzip.compress(BODY) + b"!", "truncated"),
        ("gzip", gzip.compress(BODY) + b"more", "not intact gzip data"),
        ("gzip", gzip.compress(BODY) + bytes(8), "not intact gzip data"),
        ("gzip", gzip.compress(BODY) * 2 + zlib.compress(BODY), "not intact gzip data"),
        ("gzip", gzip.compress(BODY) + gzip.compress(BODY)[:-9], "truncated"),
        ("gzip", gzip.compress(b"") * 1001, "goes on after"),
        ("deflate", zlib.compress(BODY) * 2, "goes on after"),
        ("deflate", raw_deflate(BODY) * 2, "goes on after"),
    ],
)
def test_damage_is_named(encoding: str, body: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest, match=message):
        inflate(body, encoding, 10**6)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "nonsense"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="gzip or deflate"):
        inflate(BODY, encoding, 10**6)


@pytest.mark.parametrize("length", [1, 2**20 - 258, 2**20 - 1, 2**20, 2**20 + 1, 2**22])
@pytest.mark.parametrize("compress", [zlib.compress, raw_deflate])
def test_no_piece_is_large_and_none_is_lost(compress, length: int) -> None:  # type: ignore[no-untyped-def]
    pieces = list(inflating.inflate(compress(b"x" * length), "deflate", length))
    assert b"".join(pieces) == b"x" * length
    assert all(0 < len(piece) <= 2**20 for piece in pieces)


def test_a_bomb_is_inflated_no_further_than_it_is_asked_for() -> None:
    pieces = inflating.inflate(gzip.compress(bytes(200 * 2**20)), "gzip", 2**30)
    tracemalloc.start()
    try:
        next(pieces)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()
