"""The life of one image: decode -> preprocess -> queue and pass -> logits and predictions."""

import math
import time
from dataclasses import dataclass

from service.arrays import Logits, Pixels
from service.bundles.bundle import Bundle
from service.bundles.golden import GoldenImages
from service.engines.choice import Choice
from service.engines.measuring import best_rate
from service.images.decode import ImageInfo
from service.images.preprocess import Prepare
from service.lanes.decode_pool import DecodePool
from service.metrics import Metrics
from service.lanes.postprocess import Prediction, top_k
from service.scheduling.scheduler import Scheduler
from service.scheduling.ticket import Priority, Ticket


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image, and the seconds it spent in each stage."""

    logits: Logits
    predictions: list[Prediction]
    image: ImageInfo
    stages: dict[str, float]


_TARGET, _TARGET_IMAGES = 0.35, 48  # seconds, and images that there is time for at least


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, an answer is worth waiting for where the client does not say."""

    target: float  # promised at the door; 0: what suits the model
    deadline: float  # the end of it


class Classifier:
    """One model's pipeline."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        prepare: Prepare,
        golden: GoldenImages,
        decode_pool: DecodePool,
        scheduler: Scheduler,
        choice: Choice,
        patience: Patience,
        metrics: Metrics,
    ) -> None:
        self.manifest = bundle.manifest
        self.bundle_sha256 = bundle.sha256
        self.scheduler = scheduler
        self.choice = choice  # of the engine, with what was measured at start
        self.images_per_second = best_rate(choice.curve)
        self.golden = golden
        self._patience = patience
        self._decode_pool = decode_pool
        self._prepare = prepare
        self.labels = bundle.labels
        self._metrics = metrics

    def ticket(self, seconds: float | None = None, priority: Priority = "interactive") -> Ticket:
        """For an image that comes now; `seconds` and `priority` are what its client asks for.

        Only who asks for nothing is promised the target. Bulk has time.
        """
        now = self.scheduler.now()
        if seconds is None and priority == "interactive":
            return Ticket(now + self._patience.deadline, priority, due=now + self._target())
        ticket = Ticket(math.inf, priority)
        ticket.allow(self._patience.deadline if seconds is None else seconds, now)
        return ticket

    def _target(self) -> float:
        """Seconds; where an operator chose none, some dozens of clients who wait for their answers are never refused,
        however slow the model or the machine.
        """
        if self._patience.target:
            return self._patience.target
        size = self.scheduler.max_batch_size
        return max(_TARGET, _TARGET_IMAGES / size * self.scheduler.seconds(size))

    @property
    def info(self) -> dict[str, str]:
        """The labels of mixer_model_info."""
        manifest = self.manifest
        return {
            "model": manifest.name,
            "version": manifest.version,
            "variant": manifest.variant,
            "precision": manifest.precision,
            "engine": self.choice.engine.name,
            "sha256": manifest.files["model.onnx"],
        }

    async def classify(self, data: bytes, k: int, ticket: Ticket) -> Classification:
        """Encoded image -> its k best predictions. Raises the ServiceErrors of `decode` and `Scheduler.submit`."""
        arrived = time.perf_counter()
        before = self._decode_pool.waiting
        wait = self.scheduler.passes_before_decoding(before) + self._decode_pool.seconds_for(before)
        ticket.ready_by = self.scheduler.now() + wait
        (pixels, image), decode_seconds = await self._decode_pool.run(self._prepare, data)
        return await self._ask(pixels, image, k, ticket, arrived, decode_seconds)

    async def classify_pixels(self, pixels: Pixels, k: int, ticket: Ticket) -> Classification:
        """Pixels as the engine takes them, uint8 [image_size, image_size, 3], likewise."""
        ticket.ready_by = self.scheduler.now()
        height, width, _ = pixels.shape
        image = ImageInfo(width, height, "pixels", orientation_applied=False)
        return await self._ask(pixels, image, k, ticket, time.perf_counter(), 0.0)

    async def _ask(
        self, pixels: Pixels, image: ImageInfo, k: int, ticket: Ticket, arrived: float, decode_seconds: float
    ) -> Classification:
        answer = await self.scheduler.submit(pixels, ticket)
        answered = time.perf_counter()
        predictions = top_k(answer.logits, self.labels, k)
        stages = {
            "decode": decode_seconds,
            "queue": answer.pass_started - arrived - decode_seconds,  # for a decode thread, then for the engine
            "infer": answer.pass_ended - answer.pass_started,
            "post": time.perf_counter() - answered,
        }
        for stage, seconds in stages.items():
            self._metrics.stage_duration.labels(stage).observe(seconds)
        return Classification(answer.logits, predictions, image, stages)

    async def check_golden(self, deadline: float) -> None:
        """Send one golden image through the queue until loop time `deadline`.

        Raises GoldenMismatch, EngineFailure, DeadlineExceeded or NotReady.
        """
        answer = await self.scheduler.submit(self.golden.pixels[0], Ticket(deadline))
        self.golden.check(answer.logits[None])
