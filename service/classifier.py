"""The life of one image: decode -> preprocess -> queue and pass -> predictions."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.bundle import Bundle
from service.decode import ImageInfo, decode
from service.golden import GoldenImages
from service.metrics import Metrics
from service.postprocess import Prediction, top_k
from service.preprocess import Pixels, Preprocessor
from service.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image, and the seconds it spent in each stage."""

    predictions: list[Prediction]
    image: ImageInfo
    stages: dict[str, float]


class Classifier:
    """One model's pipeline."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        decode_pool: ThreadPoolExecutor,
        max_pixels: int,
        scheduler: Scheduler,
        images_per_second: float,
        metrics: Metrics,
    ) -> None:
        self.manifest = bundle.manifest
        self.scheduler = scheduler
        self.images_per_second = images_per_second  # the engine's capacity, from its measured pass times
        self._decode_pool = decode_pool
        self._max_pixels = max_pixels
        self._preprocess = Preprocessor(bundle.manifest.preprocessing)
        self._labels = bundle.labels
        self._metrics = metrics
        self.golden = GoldenImages(bundle, lambda data: self._prepare(data)[0])

    async def classify(self, data: bytes, k: int) -> Classification:
        """Encoded image -> its k best predictions. Raises the ServiceErrors of `decode` and `Scheduler.submit`."""
        arrived = time.perf_counter()
        loop = asyncio.get_running_loop()
        pixels, image, decode_seconds = await loop.run_in_executor(self._decode_pool, self._prepare, data)
        answer = await self.scheduler.submit(pixels)
        answered = time.perf_counter()
        predictions = top_k(answer.logits, self._labels, k)
        stages = {
            "decode": decode_seconds,
            "queue": answer.pass_started - arrived - decode_seconds,  # for a decode thread, then for the engine
            "infer": answer.pass_ended - answer.pass_started,
            "post": time.perf_counter() - answered,
        }
        for stage, seconds in stages.items():
            self._metrics.stage_duration.labels(stage).observe(seconds)
        return Classification(predictions, image, stages)

    def _prepare(self, data: bytes) -> tuple[Pixels, ImageInfo, float]:
        """In a decode thread: pixels, what the client is told of the image, and the seconds it took."""
        started = time.perf_counter()
        rgb, image = decode(data, self._max_pixels)
        pixels = self._preprocess(rgb)
        return pixels, image, time.perf_counter() - started

    async def check_golden(self) -> None:
        """Send one golden image through the queue; raises GoldenMismatch, EngineFailure or NotReady."""
        answer = await self.scheduler.submit(self.golden.pixels[0])
        self.golden.check(answer.logits[None])
