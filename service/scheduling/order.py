"""Who is served first, and who shares a batch: pure functions, the same for promising and for serving."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.scheduling.ticket import Ticket

PassSecondsOf = Callable[[int], float]  # batch size -> forecast wall time of a pass

_HEAD_START = 0.05  # seconds, and two full batches
_STEP = 8  # images


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may be: in images, and in forecast seconds, so that no batch makes the next one wait long."""

    images: int
    seconds: float

    def batch_size(self, tickets: Sequence[Ticket], start: int, pass_seconds: PassSecondsOf) -> tuple[int, float]:
        """How many of `tickets`, from `start` on, go into one batch, at least one, and the seconds that it takes.

        A suspect is alone in its batch, and so is an image that may take longer than one.
        """
        decoding, taken = 0.0, list[float]()
        for ticket in tickets[start : start + self.images]:
            total = decoding + ticket.decode_seconds + pass_seconds(len(taken) + 1)
            alone = ticket.suspect or ticket.longest_decode > self.seconds
            if taken and (total > self.seconds or alone):
                break
            decoding += ticket.decode_seconds
            taken.append(total)
            if alone:
                break
        size = self.even(len(taken))
        return size, taken[size - 1] if size else 0.0

    def even(self, images: int) -> int:
        """How many of them go into one batch: beyond 8 a multiple of 8, unless it is full.

        An engine prepares itself anew for a size that is not the last one's, which costs a small model the time of
        several images.
        """
        return images if images in (self.images, 0) or images < _STEP else images - images % _STEP


def serving_order(tickets: Sequence[Ticket], now: float, images: int, full_batch: float) -> list[Ticket]:
    """Interactive before bulk, each by when it is to be served; bulk that would be late if it waited goes by that too.

    A bulk ticket waits until the bulk before it, itself and a few batches more just fit into the time that it has left;
    so bulk is never starved, and what was promised to it holds. A full batch has `images` and takes `full_batch` s.
    """
    bulk = sorted((ticket for ticket in tickets if ticket.priority == "bulk"), key=_serve_by)
    waits = {
        ticket
        for place, ticket in enumerate(bulk)
        if ticket.serve_by - now > (place // images + 4) * full_batch + _HEAD_START
    }
    # An answer after a deadline is worth nothing, one after a mere promise is: in a queue that runs late, whoever has a
    # deadline goes before those who are wanted a little sooner and would wait longer.
    head_start = 2 * full_batch + _HEAD_START

    def rank(ticket: Ticket) -> tuple[bool, bool, float]:
        serve_by = ticket.serve_by - head_start if ticket.is_hard else ticket.serve_by
        return not ticket.suspect, ticket in waits, serve_by

    return sorted(tickets, key=rank)


def _serve_by(ticket: Ticket) -> float:
    return ticket.serve_by
