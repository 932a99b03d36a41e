"""Bundle path -> Classifier: verified, and its lanes started, measured, warm and proven on the golden images."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.lanes.orders import Loaded, LoadOrder
from service.lanes.pool import LanePool
from service.lanes.process import Spawn
from service.lanes.shape import choose_shape
from service.metrics import Metrics, ModelMetrics
from service.models.classifier import Classifier
from service.scheduling.admission import Admission
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.scheduling.promises import Patience, Promises
from service.scheduling.scheduler import Scheduler
from service.scheduling.shared_cores import SharedCores
from service.scheduling.times import DecodeTimes, PassTimes
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loader:
    """Makes classifiers that share the cores."""

    settings: Settings
    cores: float
    memory: int | None  # bytes, the container's limit
    spawn: Spawn
    shared_cores: SharedCores
    admission: Admission
    metrics: Metrics
    pass_log: PassLog
    loop_lag: LoopLag

    async def load(self, path: Path, models: int = 1) -> Classifier:
        """The classifier of the bundle <repository>/<name>/<version>, not yet started; `models` share the memory.

        Raises BundleError, LoadFailure or LaneLost if it cannot be served, MemoryError if it does not fit, ValueError
        if the settings ask for more lanes and threads than there are cores.
        """
        bundle = await asyncio.to_thread(_verified, path)
        manifest, settings = bundle.manifest, self.settings
        if (manifest.name, manifest.version) != (bundle.path.parent.name, bundle.path.name):
            raise BundleError(f"{bundle.path}: its manifest calls it {manifest.name}/{manifest.version}")
        shape = choose_shape(
            self.cores,
            bundle.model_path.stat().st_size,
            self.memory,
            models=models,
            lanes=settings.lanes,
            threads=settings.threads,
            providers=settings.providers,
        )
        order = LoadOrder(
            bundle=str(bundle.path),
            engine=settings.engine,
            providers=settings.providers,
            threads=shape.threads,
            wide_threads=shape.wide_threads,
            max_batch_size=settings.max_batch_size,
            max_pixels=settings.max_pixels,
            memory=shape.lane_memory,
            measure=True,
        )
        lanes = LanePool(manifest.name, self.spawn, self.metrics, self.shared_cores.serve)
        # Before it is measured, which takes a while: at zero, they may be scraped before its first image comes.
        metrics = self.metrics.add_model(manifest.name, manifest.version, self.cores)
        try:
            loaded = await lanes.start(order, shape.lanes, 3 * manifest.image_size**2)
            return self._around(bundle, lanes, loaded, metrics)
        except BaseException:
            self.metrics.remove_model(metrics)
            raise

    def _around(self, bundle: Bundle, lanes: LanePool, loaded: Loaded, metrics: ModelMetrics) -> Classifier:
        settings, manifest = self.settings, bundle.manifest
        promises = Promises(
            lanes,
            loaded.max_batch_size,
            PassTimes(loaded.pass_seconds),
            DecodeTimes(loaded.decode_seconds, settings.max_pixels),
            Patience(target=settings.latency_target_ms / 1000, deadline=settings.deadline_ms / 1000),
            loop_lag=lambda: self.loop_lag.on_the_way,
        )
        scheduler = Scheduler(
            lanes,
            promises,
            self.shared_cores,
            max_queue_delay=settings.max_queue_delay_ms / 1000,
            metrics=metrics,
            pass_log=self.pass_log,
        )
        classifier = Classifier(bundle, loaded, lanes, promises, scheduler, self.admission, metrics)
        log.info(
            "serving %s (%s) on %s, lanes x threads: %d x %d",
            classifier.reference,
            manifest.precision,
            loaded.description,
            lanes.size,
            lanes.threads,
            extra={
                "model": classifier.reference,
                "precision": manifest.precision,
                "engines": loaded.considered,
                "golden_max_abs_error": loaded.golden_max_abs_error,
                "lanes": lanes.size,
                "lane_threads": lanes.threads,
                "lane_mib": loaded.held_bytes >> 20,
                "pass_ms": {size: round(seconds * 1000, 3) for size, seconds in loaded.pass_seconds.items()},
                "alone_ms": round(loaded.wide_seconds * 1000, 3),
                "images_per_second": round(classifier.images_per_second, 1),
                "max_batch_size": loaded.max_batch_size,
            },
        )
        return classifier


def _verified(path: Path) -> Bundle:
    return load_bundle(path.resolve())  # so that a link that is moved meanwhile does not mix two bundles
