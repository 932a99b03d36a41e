"""The bytes of request bodies inside, and which upload ends when it is too slow or when room runs out."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from service.errors import Overloaded, RequestTimeout, ServiceError

PATIENCE_SECONDS = 10.0  # that an upload may be silent
STALLED_SECONDS = 1.0  # silence, or time lost on the least rate, after which an upload makes room for others
_SHARE = 0.5  # of all bytes; whoever holds more is the first to make room
_LOOKED_AT = 64  # uploads, when one has to go; who sends is among the last
_SWEEP_SECONDS = 1.0
_IPV4_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(eq=False)
class Upload:
    """One request's body: bytes that came, and are kept until the request is answered."""

    address: bytes  # of the client
    announced: float  # bytes; infinite if the client did not say
    end: Callable[[ServiceError], None]  # answers with an error and reads no more
    waits_for_us: Callable[[], bool]  # true while it is not the client that is slow
    began: float  # time of the event loop
    until: float  # when patience with it ends, if nothing more comes
    received: int = 0

    def __str__(self) -> str:
        """How far it got, for people."""
        of = f" of {self.announced}" if self.announced != float("inf") else ""
        return f"{self.received}{of} bytes of the body arrived in {_now() - self.began:.1f} s"


@dataclass
class Uploads:
    """All requests' bodies. A body is charged as it arrives, and not by what its head announces.

    A client that sends `least_rate` bytes a second may go on; one that sends less is heard for PATIENCE_SECONDS more.
    """

    most_bytes: int
    least_rate: float
    held: int = 0  # bytes
    _by_address: Counter[bytes] = field(default_factory=Counter)
    _arriving: dict[Upload, None] = field(default_factory=dict)  # the longest silent first
    _timer: asyncio.TimerHandle | None = None

    def begin(
        self,
        address: str,
        announced: float,
        end: Callable[[ServiceError], None],
        waits_for_us: Callable[[], bool],
        received: int = 0,
    ) -> Upload:
        """An upload that is served from now on, `received` bytes of which are here; `release` it in the end.

        Raises Overloaded as `receive` does.
        """
        now = _now()
        upload = Upload(_network(address), announced, end, waits_for_us, now, now + PATIENCE_SECONDS)
        if received < announced:
            self._arriving[upload] = None
            if not self._timer:
                self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep, now + _SWEEP_SECONDS)
        if received:
            self._charge(upload, received)
        return upload

    def receive(self, upload: Upload, count: int) -> None:
        """Charge `count` more bytes. Where that is too much, somebody's upload ends.

        Raises Overloaded where it is this one.
        """
        self._arriving[upload] = self._arriving.pop(upload, None)
        upload.until = min(upload.until + count / self.least_rate, _now() + PATIENCE_SECONDS)
        self._charge(upload, count)

    def _charge(self, upload: Upload, count: int) -> None:
        upload.received += count
        self.held += count
        self._by_address[upload.address] += count
        if self.held > self.most_bytes:
            held, limit = self.held, self.most_bytes
            victim = self._first_to_go(upload)
            error = Overloaded(f"{held} bytes are inside, of {limit}", reason="inflight_bytes", retry_after=1)
            self.release(victim)
            if victim is upload:
                raise error
            victim.end(error)

    def complete(self, upload: Upload) -> None:
        """All of it is here; it is charged on, until it is released."""
        self._arriving.pop(upload, None)

    def release(self, upload: Upload) -> None:
        """Its bytes are gone. To release it twice does nothing."""
        self.complete(upload)
        self.held -= upload.received
        self._by_address[upload.address] -= upload.received
        if not self._by_address[upload.address]:
            del self._by_address[upload.address]
        upload.received = 0

    def end_most_stalled(self) -> bool:
        """Make room for others: end the upload that holds them up most; False if none stalls."""
        victim = max(self._silent_longest(), key=self._lost, default=None)
        if not victim or self._lost(victim) < STALLED_SECONDS:
            return False
        self._end(victim, RequestTimeout(f"the upload stalled while others waited: {victim}", reason="slow_upload"))
        return True

    def _first_to_go(self, upload: Upload) -> Upload:
        """Of whoever holds more than a share; of these the slowest, if one stalls; of these the latest that is large.

        Large is what holds half of the mean, or more: the end of a small one makes room for a moment.
        """
        candidates = dict.fromkeys([upload, *self._silent_longest()])
        large = sum(one.received for one in candidates) / (2 * len(candidates))

        def unfitness(upload: Upload) -> tuple[bool, float, bool, float]:
            lost = self._lost(upload)
            return (
                self._by_address[upload.address] > _SHARE * self.most_bytes,
                lost if lost > STALLED_SECONDS else 0,
                upload.received >= large,
                upload.began,
            )

        return max(candidates, key=unfitness)

    def _silent_longest(self) -> list[Upload]:
        return list(islice(self._arriving, _LOOKED_AT))

    def _lost(self, upload: Upload) -> float:
        """Seconds that it was silent, or fell behind the least rate."""
        return 0.0 if upload.waits_for_us() else _now() + PATIENCE_SECONDS - upload.until

    def _sweep(self, due: float) -> None:
        now = _now()
        late = now - due  # the process itself may have stood still
        for upload in list(self._arriving):
            if upload.waits_for_us():
                upload.until = now + PATIENCE_SECONDS
            elif late > _SWEEP_SECONDS:
                upload.until += late
            elif now > upload.until:
                self._end(upload, RequestTimeout(self._too_slow(upload), reason="slow_upload"))
        self._timer = None
        if self._arriving:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep, now + _SWEEP_SECONDS)

    def _too_slow(self, upload: Upload) -> str:
        return f"the upload is too slow: {upload}; send {self.least_rate:g} bytes a second, or more"

    def _end(self, upload: Upload, error: ServiceError) -> None:
        self.release(upload)
        upload.end(error)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _network(address: str) -> bytes:
    """Whose it is: of IPv6 every host has 2^64 addresses (RFC 4291, section 2.5.4), but for those that are IPv4."""
    if ":" not in address:
        return address.encode()
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed if packed.startswith(_IPV4_MAPPED) else packed[:8]
