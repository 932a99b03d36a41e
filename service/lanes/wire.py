"""What the front and a lane say to each other over their socket: JSON, and the bytes that it announces behind it.

Nothing that a lane sends is ever executed: a lane decodes strangers' images, and the front does not trust it further.
"""

import json
import struct
from collections.abc import Sequence
from socket import socket
from typing import Any, NamedTuple

HEAD = struct.Struct("<II")  # bytes of JSON, and bytes behind it
Buffer = bytes | memoryview


class Item(NamedTuple):
    """One image for a lane, and what to answer with.

    That is its `top_k` best predictions, its logits if that is 0, or neither if that is None; and behind them its
    `features` if they are asked for, which the model must have.
    """

    data: Buffer  # an encoded image, or pixels as the engine takes them
    top_k: int | None
    is_pixels: bool = False
    features: bool = False


def message(said: object, parts: Sequence[Buffer] = ()) -> list[Buffer]:
    """The pieces to write for JSON `said` and the bytes behind it."""
    text = json.dumps(said, separators=(",", ":")).encode()
    return [HEAD.pack(len(text), sum(map(len, parts))) + text, *parts]


def send(connection: socket, said: object, parts: Sequence[Buffer] = ()) -> None:
    """Write one message, and wait until all of it is written. Raises OSError if the other side is gone."""
    for piece in message(said, parts):
        connection.sendall(piece)


def receive(connection: socket) -> tuple[Any, memoryview] | None:
    """Wait for one message: its JSON, and the bytes behind it; None if the other side is gone."""
    head = _exactly(connection, HEAD.size)
    if head is None:
        return None
    text_bytes, part_bytes = HEAD.unpack(head)
    body = _exactly(connection, text_bytes + part_bytes)
    return None if body is None else (json.loads(bytes(body[:text_bytes])), body[text_bytes:])


def _exactly(connection: socket, size: int) -> memoryview | None:
    data, at = memoryview(bytearray(size)), 0
    while at < size:
        try:
            read = connection.recv_into(data[at:])
        except ConnectionResetError:  # it left something unread
            return None
        if not read:
            return None
        at += read
    return data
