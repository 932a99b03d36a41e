"""One lane as the front sees it: it is given a batch, and answers it or is lost."""

import asyncio
import json
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast

from service import errors
from service.errors import EngineFailure, ImageTooLarge, ServiceError
from service.lanes.orders import Loaded, LoadOrder
from service.lanes.process import LaneProcess, Spawn
from service.lanes.wire import HEAD, Buffer, Item, message

_LONGEST_ANSWER = 256 * 2**20  # bytes; 1024 images of 21,843 classes in float32 are 90 MB
A_DAY = 86_400.0  # seconds
_T = TypeVar("_T")
LossReason = Literal["crash", "hang", "memory"]


class LaneLost(Exception):
    """The lane is gone, and its batch is unanswered; the message says how it ended."""

    def __init__(self, reason: LossReason, told: str, in_decoding: bool) -> None:
        super().__init__(told)
        self.reason = reason
        self.in_decoding = in_decoding  # known only of a batch that was to tell when it is decoded

    def error(self) -> ServiceError:
        """What is said of an image that was alone in the batch, and not in the first that was lost with it."""
        if self.reason == "hang" and self.in_decoding:
            return ImageTooLarge("the image takes too long to decode", reason="decode_time")
        return EngineFailure("the engine failed on this image")


class LoadFailure(Exception):
    """The lane could not load its model; the message is its engine's or bundle's."""


class Answer(NamedTuple):
    """What a lane says of one image."""

    answer: bytes  # predictions as JSON or logits, and then features, float32: what its Item asks for
    image: bytes  # the ImageInfo as JSON
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong in the lane; `told` is for the log and not for the client."""

    told: str


@dataclass(frozen=True, slots=True)
class Left:
    """It was not begun, since those before it took long: it may be given to a lane again."""


Outcome = Answer | ServiceError | Fault | Left
_Reply = tuple[Any, memoryview]  # what the lane says, and the bytes behind it


class BatchAnswer(NamedTuple):
    """A batch's outcomes, in its order, and time.perf_counter seconds of its way."""

    outcomes: list[Outcome]
    began: float  # decoding, in the lane
    pass_started: float
    pass_ended: float


Done = Callable[[BatchAnswer | LaneLost], None]  # is told how a batch ended


class Lane(asyncio.Protocol):
    """Use `start`, then `send` again and again, one batch at a time."""

    def __init__(self, process: LaneProcess) -> None:
        self.busy_until = 0.0  # loop time at which it is forecast to be free
        self.batches = 0  # that it was given
        self.process = process
        self.has_wide_engine = False
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._replied: Callable[[_Reply | LaneLost], None] | None = None
        self.reason: LossReason = "crash"
        self._decoded = True
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()  # done once it is gone

    @classmethod
    async def start(cls, spawn: Spawn, order: LoadOrder) -> tuple["Lane", Loaded]:
        """A lane that has loaded its model and proven it.

        Raises LoadFailure if its model is to blame, LaneLost if the process ended.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.shield(asyncio.to_thread(spawn, theirs))  # whose socket it closes
        except BaseException:
            ours.close()  # upon which a lane that is there ends
            raise
        _, lane = await loop.create_connection(lambda: cls(process), sock=ours)
        try:
            proven: asyncio.Future[_Reply] = loop.create_future()
            lane._ask(message(asdict(order)), partial(settle, proven))
            said, _ = await proven
        except asyncio.CancelledError:
            lane.kill("crash")
            raise
        if "failed" in said:
            lane.close()
            await lane.lost
            raise LoadFailure(said["failed"])
        loaded = Loaded.of(said["loaded"])
        lane.has_wide_engine = loaded.wide_seconds > 0
        return lane, loaded

    def send(
        self,
        items: Sequence[Item],
        done: Done,
        *,
        longest: float,
        wide: bool,
        alone: bool,
        budget: float,
    ) -> None:
        """Have a batch decoded and passed; `wide` uses all cores, and `alone` has the lane say when it has decoded.

        Images that are not begun when decoding has taken `budget` seconds are `Left`; the first never is.

        `done` is called with the answer as soon as that is read, so that the lane may have its next batch at once; or
        with a LaneLost if the lane ends, or is ended because it takes longer than `longest` seconds.
        """
        self._decoded = not alone
        self.batches += 1
        told = [[len(item.data), item.top_k, item.is_pixels, item.features] for item in items]
        said = {"items": told, "wide": wide, "tell_decoded": alone, "budget": budget}
        pieces = message(said, [item.data for item in items])
        watchdog = self._loop.call_later(longest, self.kill, "hang")

        def replied(reply: _Reply | LaneLost) -> None:
            watchdog.cancel()
            if isinstance(reply, LaneLost):
                done(reply)
                return
            try:
                answer = _batch_answer(*reply, len(items))
            except (LookupError, OverflowError, TypeError, ValueError):  # a stranger's image may have taken it over
                self.kill("crash")
                done(self._loss())
            else:
                done(answer)

        self._ask(pieces, replied)

    def kill(self, reason: LossReason) -> None:
        """End it."""
        self.reason = reason
        self.process.kill()
        if self._transport:
            self._transport.abort()

    def close(self) -> None:
        """Let it end by itself, once it has answered."""
        if self._transport:
            self._transport.close()

    def _ask(self, pieces: list[Buffer], replied: Callable[[_Reply | LaneLost], None]) -> None:
        assert self._transport
        self._replied = replied
        if self._transport.is_closing():
            self._loop.call_soon(self._reply, self._loss())
        else:
            self._transport.writelines(pieces)

    def _reply(self, reply: _Reply | LaneLost) -> None:
        replied, self._replied = self._replied, None
        if replied:
            replied(reply)

    def _loss(self) -> LaneLost:
        return LaneLost(self.reason, f"the lane of process {self.process.pid} is lost", not self._decoded)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is watched from now on."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a reply."""
        self._received += data
        while len(self._received) >= HEAD.size:
            text_bytes, part_bytes = HEAD.unpack_from(self._received)
            end = HEAD.size + text_bytes + part_bytes
            if end > _LONGEST_ANSWER:  # no lane of ours says so much: whoever speaks there is one no longer
                self.kill("crash")
                return
            if len(self._received) < end:
                return
            whole, self._received = memoryview(self._received)[HEAD.size : end], self._received[end:]
            said = json.loads(bytes(whole[:text_bytes]))
            if "decoded" in said:
                self._decoded = True
            else:
                self._reply((said, whole[text_bytes:]))

    def connection_lost(self, exc: Exception | None) -> None:
        """The kernel's word that the lane is no more."""
        if not self.lost.done():
            self.lost.set_result(None)
        self._loop.call_soon(self._reply, self._loss())  # once whoever counts the lanes knows


def settle(future: "asyncio.Future[_T]", reply: _T | LaneLost) -> None:
    """Give whoever waits the reply, if anybody does."""
    if future.done():
        return
    if isinstance(reply, LaneLost):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _batch_answer(said: Any, body: memoryview, images: int) -> BatchAnswer:
    """Raises LookupError, OverflowError, TypeError or ValueError if it is no answer for so many images."""
    outcomes = _outcomes(said["items"], body)
    if len(outcomes) != images:
        raise ValueError(f"{len(outcomes)} outcomes for {images} images")
    began, started, ended = map(_seconds, (said["began"], *said["pass"]))
    return BatchAnswer(outcomes, began, started, ended)


def _outcomes(items: list[Any], body: memoryview) -> list[Outcome]:
    outcomes: list[Outcome] = []
    at = 0
    for item in items:
        if isinstance(item, list):
            answer_bytes, image_bytes, decode_seconds = item
            middle, end = at + answer_bytes, at + answer_bytes + image_bytes
            if not at <= middle <= end <= len(body):
                raise ValueError("an answer is not where it is said to be")
            outcomes.append(Answer(bytes(body[at:middle]), bytes(body[middle:end]), _seconds(decode_seconds)))
            at = end
        elif "error" in item:
            outcomes.append(_error(item))
        elif "left" in item and outcomes:
            outcomes.append(Left())
        else:
            outcomes.append(Fault(item["fault"]))
    return outcomes


def _seconds(told: Any) -> float:
    """A time that forecasts can be made of: a NaN that they learn would stay in all of them."""
    seconds = float(told)
    if not math.isfinite(seconds):
        raise ValueError("a time is no number")
    return seconds


def _error(item: dict[str, Any]) -> ServiceError:
    if not isinstance(item["message"], str) or not isinstance(item["reason"], str | None):
        raise TypeError("an error that is none")
    kind = getattr(errors, item["error"], None)
    if isinstance(kind, type) and issubclass(kind, ServiceError):
        return kind(item["message"], reason=item["reason"])
    return EngineFailure("the lane answered with an error that there is not")
