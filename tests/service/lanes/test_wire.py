import socket
import threading
from collections.abc import Iterator

import pytest

from service.lanes.wire import HEAD, message, receive, send


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    for end in (near, far):
        end.settimeout(30)
    with near, far:
        yield near, far


def test_what_is_sent_is_received(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    send(near, {"items": [[3, 1]], "name": "é\n"}, [b"abc", memoryview(b"de"), b""])
    send(near, None)
    said, parts = receive(far) or pytest.fail("nobody is there")
    assert (said, bytes(parts)) == ({"items": [[3, 1]], "name": "é\n"}, b"abcde")
    said, parts = receive(far) or pytest.fail("nobody is there")
    assert (said, bytes(parts)) == (None, b"")


def test_parts_beyond_any_socket_buffer_arrive_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    large = bytes(range(256)) * 2**16  # 16 MiB
    sender = threading.Thread(target=send, args=(near, {"n": 1}, [large, b"end"]))
    sender.start()
    said, parts = receive(far) or pytest.fail("nobody is there")
    sender.join()
    assert said == {"n": 1}
    assert parts == large + b"end"


def test_parts_are_not_copied_into_the_pieces() -> None:
    image = bytes(1000)
    assert message({}, [image])[1] is image


@pytest.mark.parametrize("sent", [b"", b"\0", HEAD.pack(10, 0), HEAD.pack(2, 3) + b"{}a"], ids=["0", "1", "2", "3"])
def test_the_other_side_is_gone_in_the_middle_of_a_message_or_before_one(
    pair: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    near, far = pair
    near.sendall(sent)
    near.close()
    assert receive(far) is None


def test_the_other_side_is_gone_with_something_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.sendall(b"never read")  # so that the kernel answers with a reset
    near.close()
    assert receive(far) is None


def test_to_send_to_nobody_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.close()
    with pytest.raises(OSError):
        send(near, {})
