import gzip
import tracemalloc
import zlib

import pytest

from service.errors import MalformedRequest, PayloadTooLarge, UnsupportedEncoding
from service.inflate import inflate

BODY = bytes(range(256)) * 40


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        (" GZip ", gzip.compress(BODY)),
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


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(200 * 2**20))
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
        ("gzip", gzip.compress(BODY) + b"!", "goes on after"),
        ("gzip", gzip.compress(b"") * 1000, "goes on after"),
    ],
)
def test_damage_is_named(encoding: str, body: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest, match=message):
        inflate(body, encoding, 10**6)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "nonsense"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="gzip or deflate"):
        inflate(BODY, encoding, 10**6)
