"""Admission: a bounded number of images inside at once; one more is refused at the door."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import Overloaded, ServiceError
from service.metrics import Metrics


class Place:
    """Room for one image inside the service."""

    def __init__(self) -> None:
        self.handed_over = False

    def hand_over(self) -> None:
        """Its request turned out to hold several images, each of which is admitted and counted on its own."""
        self.handed_over = True


class Admission:
    """Holds at most `limit` images, and no more than a model answers in half of `deadline` seconds, so that whoever
    arrives behind a full pass still has time for one; counts how each image ended.
    """

    def __init__(self, limit: int, deadline: float, metrics: Metrics) -> None:
        self._limit = limit
        self._deadline = deadline
        self._metrics = metrics
        self.inflight = 0

    @contextmanager
    def admit(self, model: str, images_per_second: float) -> Iterator[Place]:
        """Take a place for one image; its outcome is that of the block.

        Raises Overloaded if there is none, with the seconds after which a full house will have been served.
        """
        limit = min(self._limit, max(1, int(images_per_second * self._deadline / 2)))
        if self.inflight >= limit:
            self._metrics.count_image(model, Overloaded.outcome)
            raise Overloaded(
                f"{self.inflight} images are being served, which is the limit",
                reason="inflight_images",
                retry_after=max(1, math.ceil(self.inflight / images_per_second)),
            )
        place = Place()
        outcome = "error"
        self._count(+1)
        try:
            yield place
            outcome = "ok"
        except ServiceError as error:
            outcome = error.outcome or "error"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._count(-1)
            if not place.handed_over:
                self._metrics.count_image(model, outcome)

    def _count(self, change: int) -> None:
        self.inflight += change
        self._metrics.inflight_images.set(self.inflight)
