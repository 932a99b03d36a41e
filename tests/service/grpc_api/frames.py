"""HTTP/2 as no library's client would send it (RFC 9113, section 4.1; RFC 7541, section 6.2.2)."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, PING = 1, 4, 6
END_STREAM, END_HEADERS = 1, 4
# RFC 7541, sections 6.2.1 and 6.1: a field that is kept, and that field once more.
KEPT = b"\x40\x01a\x64" + b"b" * 100
AGAIN = b"\xbe"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(stream: int, path: bytes, *more: tuple[bytes, bytes], flags: int = END_HEADERS, end: bytes = b"") -> bytes:
    """A call of a method, whose message follows unless the flags say otherwise; its block ends with these bytes."""
    fields = [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"mixer")),
        *((b"te", b"trailers"), (b"content-type", b"application/grpc"), *more),
    ]
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)
    return frame(HEADERS, flags, stream, block + end)


def connect(port: int) -> socket.socket:
    """A connection on which the server's settings are never acknowledged."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(PREFACE + frame(SETTINGS))
    return connection


def await_pong(connection: socket.socket) -> None:
    """Wait until all that was sent is read."""
    connection.sendall(frame(PING, payload=b"allread?"))
    received = b""
    while b"allread?" not in received:
        received += connection.recv(2**16)
