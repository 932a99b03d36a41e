"""One image inside the service, from the door to its one outcome."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from service.arrays import Logits, Pixels

Priority = Literal["interactive", "bulk"]

_SHORT = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """One image's logits and when its pass began and ended (time.perf_counter seconds)."""

    logits: Logits
    pass_started: float
    pass_ended: float


@dataclass(eq=False, slots=True)
class Ticket:
    """An admitted image. Its future, once it is queued, is the only record of who waits for it."""

    deadline: float  # loop time after which nobody wants the answer
    priority: Priority = "interactive"
    due: float = math.inf  # loop time by which the answer is promised: the deadline, if not sooner
    wanted_by: float = math.inf  # loop time that it is served by, if others can wait: when it is due, if not sooner
    pixels: Pixels = field(default_factory=lambda: np.empty((0, 0, 3), np.uint8))
    answer: asyncio.Future[Answer] | None = None
    let_in_at: float = 0.0  # loop time
    queued_at: float | None = None  # loop time
    received: bool = False  # its body is here
    ready_by: float | None = None  # loop time at which it was predicted to be queued, once that could be said
    answered_at: float | None = None  # loop time at which its pass was back

    def __post_init__(self) -> None:
        self.due = min(self.due, self.deadline)
        self.wanted_by = min(self.wanted_by, self.due)

    def allow(self, seconds: float, since: float) -> None:
        """Its deadline is so many seconds after loop time `since`, and so is what it is promised.

        Of a long time half is left over, lest all that it yielded to makes it late in the end.
        """
        self.deadline = self.due = since + seconds
        self.wanted_by = self.due - max(0.0, seconds - _SHORT) / 2

    def receive(self, now: float) -> None:
        """Its body is here. What the upload took counts against the deadline, but not against a sooner promise."""
        self.received = True
        if not self.is_hard:
            self.due = self.wanted_by = min(self.due + now - self.let_in_at, self.deadline)

    @property
    def is_hard(self) -> bool:
        """Whether an answer after `due` is worth nothing."""
        return self.due == self.deadline

    @property
    def settled(self) -> bool:
        """Whether its outcome is known, or its client left."""
        return self.answer is not None and self.answer.done()
