"""One image inside the service, from the door to its one outcome."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from service.postprocess import Logits
from service.preprocess import Pixels

Priority = Literal["interactive", "bulk"]


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
    pixels: Pixels = field(default_factory=lambda: np.empty((0, 0, 3), np.uint8))
    answer: asyncio.Future[Answer] | None = None
    let_in_at: float = 0.0  # loop time
    queued_at: float | None = None  # loop time
    received: bool = False  # its body is here
    ready_by: float | None = None  # loop time at which it was predicted to be queued, once that could be said
    answered_at: float | None = None  # loop time at which its pass was back

    def __post_init__(self) -> None:
        self.due = min(self.due, self.deadline)

    def receive(self, now: float) -> None:
        """Its body is here. What the upload took counts against the deadline, but not against a sooner promise."""
        self.received = True
        self.due = min(self.due + now - self.let_in_at, self.deadline)

    @property
    def is_hard(self) -> bool:
        """Whether an answer after `due` is worth nothing."""
        return self.due == self.deadline

    @property
    def settled(self) -> bool:
        """Whether its outcome is known, or its client left."""
        return self.answer is not None and self.answer.done()
