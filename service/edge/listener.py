"""Where connections come in: accepted one by one, also when descriptors run out, and none lost when the door closes."""

import asyncio
import ctypes
import errno
import logging
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import Counter

log = logging.getLogger(__name__)

# The kernel's own for each connection, and twice of it. It would grow to megabytes for each that does not read.
SEND_BYTES = 128 * 2**10
_AT_ONCE = 16  # let in before anything else has its turn, such as that others are closed for them
_LOOKED_AT = 64  # of whom some left while they waited: those would keep everybody behind them waiting, too
_MOST_PARTED = 16  # beyond these who has waited longest is dropped: it has very likely left
_CLOSE_WAIT = 8  # of TCP's states, in tcp(7)'s order: the other side is closed
_REST_SECONDS = 0.2  # until accepting is tried again where it failed for want of descriptors or memory
_HANDSHAKE_SECONDS = 0.2  # for those that have begun when the door closes
_LOG_SECONDS = 10.0  # at most one line in this time says so
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """A listening socket. uvloop's own server closes for ever when it is out of descriptors, without a word."""

    def __init__(
        self,
        bound: socket.socket,
        connect: Callable[[], asyncio.Protocol],
        make_room: Callable[[], None],
        ended: Counter,
    ) -> None:
        """`connect` makes the protocol of a new connection; `make_room` is called where descriptors run out.

        `ended` counts by reason those who are dropped.
        """
        self._socket = bound
        self._connect = connect
        self._make_room = make_room
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[object]] = set()
        self._parted: deque[socket.socket] = deque()  # who has closed its side: it may still wait for an answer
        self._next: asyncio.Handle | None = None  # of these
        self._resting: asyncio.TimerHandle | None = None
        self._last_told = float("-inf")

    def open(self, backlog: int) -> None:
        """Listen."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # connections inherit it
        self._socket.listen(backlog)
        self._loop.add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Take in whom the kernel has let in already, since closing would reset them, and nobody else."""
        _stop_handshakes(self._socket)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        if self._resting:
            self._resting.cancel()
        self._loop.remove_reader(self._socket)
        while self._accept():
            pass
        for handle in filter(None, (self._resting, self._next)):
            handle.cancel()
        self._socket.close()
        await asyncio.gather(*self._entering, return_exceptions=True)

    def _accept(self) -> bool:
        """Let some in, those who have closed their side already once nobody else waits; false if nobody is left."""
        entered, left = 0, True
        if self._next:
            self._next.cancel()
        for _ in range(_LOOKED_AT):
            if entered == _AT_ONCE:
                break
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                left = False
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(error)
                    return False
                continue  # who came is gone, accept(2)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # it is gone, whatever it sent
                connection.close()
                continue
            connection.setblocking(False)
            if is_closed_by_peer(connection):
                self._parted.append(connection)
            else:
                entered += 1
                self._enter(connection)
        while len(self._parted) > _MOST_PARTED:
            self._drop_parted()
        while self._parted and not left:
            self._enter(self._parted.popleft())
        self._next = self._loop.call_soon(self._accept) if self._parted else None
        return left

    def _enter(self, connection: socket.socket) -> None:
        entering = self._loop.create_task(self._loop.connect_accepted_socket(self._connect, connection))
        self._entering.add(entering)
        entering.add_done_callback(self._entering.discard)

    def _drop_parted(self) -> None:
        self._parted.popleft().close()
        self._ended.labels("half_closed").inc()

    def _rest(self, error: OSError) -> None:
        if self._loop.time() - self._last_told > _LOG_SECONDS:
            self._last_told = self._loop.time()
            log.error("a connection cannot be accepted: %s", error.strerror, extra={"errno": error.errno})
        while self._parted:  # who has very likely left goes before others
            self._drop_parted()
        for _ in range(_AT_ONCE):
            self._make_room()
        self._loop.remove_reader(self._socket)
        self._resting = self._loop.call_later(_REST_SECONDS, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._socket, self._accept)
        self._accept()


def is_closed_by_peer(connection: socket.socket) -> bool:
    """Whether all has come that ever will; only Linux says so."""
    if sys.platform != "linux":
        return False
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSE_WAIT


def _stop_handshakes(listener: socket.socket) -> None:
    """Have the kernel drop new SYNs (socket(7), SO_ATTACH_FILTER): who comes just before the close is reset.

    Their clients try again and are then refused, which is an honest answer.
    """
    if sys.platform != "linux":
        return
    # BPF: load the flags of the TCP header; if SYN is set, keep no byte, or else all.
    program = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    with suppress(OSError):  # forbidden: a window of microseconds is left
        listener.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(program), ctypes.addressof(code)))
