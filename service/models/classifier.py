"""One loaded model, and the life of one image in it: queued, batched, answered."""

import asyncio
import json
import time
from typing import NamedTuple

from service.bundles.bundle import Bundle
from service.errors import DeadlineExceeded
from service.lanes.orders import Loaded
from service.lanes.pool import LanePool
from service.lanes.wire import Buffer, Item
from service.metrics import ModelMetrics
from service.scheduling.admission import Admission
from service.scheduling.promises import Promises
from service.scheduling.scheduler import Scheduler
from service.scheduling.statistics import Statistics
from service.scheduling.ticket import Passed, Ticket

_HEAVIER = 2.0  # times the usual decoding, by which its place in the queue was promised


class Classification(NamedTuple):
    """The answer for one image, and the seconds it spent in each stage."""

    answer: bytes  # its best predictions as JSON or its logits, and then its features, float32: what was asked for
    image: bytes  # what was understood of the image, as JSON
    stages: dict[str, float]


class Submitted(NamedTuple):
    """An image that waits for its outcome."""

    outcome: asyncio.Future[Passed]
    at: float  # perf_counter seconds
    alarm: asyncio.TimerHandle  # at its deadline


class Classifier:
    """A model that is loaded: its lanes, its queue and what is promised to its images."""

    def __init__(
        self,
        bundle: Bundle,
        loaded: Loaded,
        lanes: LanePool,
        promises: Promises,
        scheduler: Scheduler,
        admission: Admission,
        metrics: ModelMetrics,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.manifest = bundle.manifest
        self.bundle_sha256 = bundle.sha256
        self.labels = bundle.labels
        self.samples = [bundle.path / image for image in bundle.manifest.golden.images]
        self.reference = f"{self.manifest.name}/{self.manifest.version}"  # as settings and log lines have it
        named = {"name": self.manifest.name, "version": self.manifest.version}
        self.reference_json = json.dumps(named, separators=(",", ":")).encode()  # as answers have it
        self.loaded = loaded
        self.lanes = lanes
        self.promises = promises
        self.metrics = metrics
        self._scheduler = scheduler
        self.admission = admission

    @property
    def images_per_second(self) -> float:
        """What its lanes can pass together, as it was measured."""
        return self.lanes.size * max(size / seconds for size, seconds in self.loaded.pass_seconds.items())

    @property
    def serves(self) -> bool:
        """Whether a lane serves, or one in its place is on its way."""
        return not self.lanes.given_up

    @property
    def statistics(self) -> Statistics:
        """What it did since it was loaded."""
        return self._scheduler.statistics

    @property
    def info(self) -> dict[str, str]:
        """The labels of mixer_model_info."""
        manifest = self.manifest
        return {
            "model": manifest.name,
            "version": manifest.version,
            "variant": manifest.variant,
            "precision": manifest.precision,
            "engine": self.loaded.description,
            "sha256": manifest.files["model.onnx"],
        }

    async def classify(
        self, data: Buffer, top_k: int | None, ticket: Ticket, *, features: bool = False
    ) -> Classification:
        """An encoded image, and what to answer with (see `lanes.wire.Item`).

        Raises the ServiceErrors of `images.decode`, and those of `submit`.
        """
        return await self._answer_of(self.submit(data, top_k, ticket, features=features))

    def submit(self, data: Buffer, top_k: int | None, ticket: Ticket, *, features: bool = False) -> Submitted:
        """The same for who does not wait: once the `outcome` is done, `conclude` has the answer, and is to be called.

        Raises those of `Scheduler.enqueue`, and Overloaded if there is no time for it, since it takes longer to decode
        than images lately did.
        """
        if ticket.image is None:  # it was not here when its place was promised
            at_the_door, in_haste = ticket.decode_seconds, bool(ticket.haste)
            self.promises.foresee(ticket, data)
            heavier = ticket.decode_seconds > _HEAVIER * at_the_door or in_haste > bool(ticket.haste)
            if heavier or (ticket.is_hard and ticket not in self.promises):  # or its upload was slow
                self.admission.check_time(self, ticket)
        return self._submit(Item(data, top_k, features=features), ticket)

    async def classify_pixels(
        self, pixels: Buffer, top_k: int | None, ticket: Ticket, *, features: bool = False
    ) -> Classification:
        """Pixels as the engine takes them, uint8 [image_size, image_size, 3], likewise."""
        self.promises.foresee(ticket, pixels, is_pixels=True)
        return await self._answer_of(self._submit(Item(pixels, top_k, is_pixels=True, features=features), ticket))

    def _submit(self, item: Item, ticket: Ticket) -> Submitted:
        at = time.perf_counter()
        ticket.item = item
        self.promises.expect(ticket)
        outcome = self._scheduler.enqueue(ticket)
        return Submitted(outcome, at, self._loop.call_at(ticket.deadline, _expire, ticket))

    async def _answer_of(self, submitted: Submitted) -> Classification:
        try:
            await submitted.outcome
        finally:
            submitted.alarm.cancel()
        return self.conclude(submitted)

    def conclude(self, submitted: Submitted) -> Classification:
        """The answer, once there is an outcome; raises what else it is."""
        submitted.alarm.cancel()
        passed = submitted.outcome.result()
        decode_seconds = passed.answer.decode_seconds
        waited = passed.pass_started - submitted.at - decode_seconds  # for a lane, and for its batch mates
        stages = {
            "decode": decode_seconds,
            "queue": max(0.0, waited),
            "infer": passed.pass_ended - passed.pass_started,
            "post": time.perf_counter() - passed.pass_ended,
        }
        self.metrics.observe_stages(stages)
        return Classification(passed.answer.answer, passed.answer.image, stages)

    def start(self) -> None:
        """Begin to serve."""
        self._scheduler.start()

    async def close(self) -> None:
        """Answer who waits, then let the lanes end."""
        await self._scheduler.stop()
        await self.lanes.close()


def _expire(ticket: Ticket) -> None:
    ticket.settle(DeadlineExceeded("the deadline passed before the answer was ready"))
