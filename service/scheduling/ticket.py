"""One image inside the service, from the door to its one outcome."""

import asyncio
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from service.errors import ServiceError
from service.images.announced import Announced
from service.lanes.lane import Answer
from service.lanes.wire import Item

Priority = Literal["interactive", "bulk"]

_SHORT = 1.0  # seconds


class Passed(NamedTuple):
    """One image's answer, and when its batch began in a lane and its pass began and ended (perf_counter seconds)."""

    answer: Answer
    began: float
    pass_started: float
    pass_ended: float


@dataclass(eq=False, slots=True)
class Ticket:
    """An admitted image. All times are the event loop's, in seconds."""

    deadline: float  # nobody wants the answer later
    priority: Priority = "interactive"
    patient: bool = False  # it has more time than one whose client asks for nothing
    promised_by: float = math.inf  # the answer is promised by then: the deadline, if not sooner
    serve_by: float = math.inf  # it is served by then, if others can wait: when it is promised, if not sooner
    haste: float = 0.0  # seconds that it is served sooner still, because it takes far less than others do
    decode_seconds: float = 0.0  # forecast
    longest_decode: float = 0.0  # seconds, if its format is as wrongly forecast as lately; infinite if all is untold
    item: Item | None = None  # what a lane is to do, once the body is here
    image: Announced | None = None
    let_in_at: float = -math.inf
    queued_at: float | None = None
    received: bool = False  # its body is here
    suspect: bool = False  # a lane was lost over a batch with it, so it is tried alone
    spares_last_lane_until: float = math.inf  # of a suspect: then it has waited for another long enough
    outcome: asyncio.Future[Passed] | None = None  # once it is queued, the only record of who waits for it

    def __post_init__(self) -> None:
        self.promised_by = min(self.promised_by, self.deadline)
        self.serve_by = min(self.serve_by, self.promised_by)

    def allow(self, seconds: float, since: float) -> None:
        """Its deadline is so many seconds after `since`, and so is what it is promised.

        Of a long time half is left over, lest all that it yielded to makes it late in the end.
        """
        self.deadline = self.promised_by = since + seconds
        self.serve_by = self.promised_by - max(0.0, seconds - _SHORT) / 2

    def receive(self, seconds: float) -> None:
        """Its body is here. What the upload took counts against the deadline, but not against a sooner promise."""
        self.received = True
        if not self.is_hard:
            self.promised_by = self.serve_by = min(self.promised_by + seconds, self.deadline)

    @property
    def is_inside(self) -> bool:
        """Whether it was let in."""
        return self.let_in_at > -math.inf

    @property
    def is_hard(self) -> bool:
        """Whether an answer after `promised_by` is worth nothing."""
        return self.promised_by == self.deadline

    @property
    def settled(self) -> bool:
        """Whether its outcome is known, or its client left."""
        return self.outcome is not None and self.outcome.done()

    def settle(self, outcome: Passed | ServiceError) -> None:
        """Give whoever waits the outcome, unless there is one already."""
        if self.outcome is None or self.outcome.done():
            return
        if isinstance(outcome, ServiceError):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)
