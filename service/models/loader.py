"""Bundle path -> Classifier: verified, built, measured, warm and proven on its golden images."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.golden import GoldenImages
from service.engines.choice import Build, choose_engine
from service.engines.engine import RunPass, timed_pass
from service.engines.measuring import best_batch_size, best_rate, warm_up
from service.engines.curve import PassTimes
from service.images.preprocess import Prepare, preparation
from service.lanes.decode_pool import DecodePool, PixelBudget
from service.lanes.engine_thread import EngineRunner
from service.metrics import Metrics
from service.models.classifier import Classifier, Patience
from service.scheduling.pass_log import PassLog
from service.scheduling.scheduler import BatchPolicy, Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)

LARGEST_BATCH = 16  # of those that MAX_BATCH_SIZE 0 chooses among
# Seconds; a pass is called hung only beyond this and beyond twenty times what it took when it was measured.
_SHORTEST_HANG = 10.0

FindEngines = Callable[[Bundle, int, Settings], dict[str, list[Build]]]  # those that run a bundle on so many threads


@dataclass(frozen=True)
class VerifiedModel:
    """A bundle whose every byte is as promised, its way from bytes to pixels, and what to prove an engine with."""

    bundle: Bundle
    prepare: Prepare
    golden: GoldenImages


def verify_model(path: Path, max_pixels: int, pixel_budget: PixelBudget) -> VerifiedModel:
    """Read and verify the bundle <repository>/<name>/<version>; raises BundleError."""
    bundle = load_bundle(path.resolve())  # so that a link that is moved meanwhile does not mix two of them
    manifest = bundle.manifest
    if (manifest.name, manifest.version) != (path.parent.name, path.name):
        raise BundleError(f"{path}: its manifest calls it {manifest.name}/{manifest.version}")
    prepare = preparation(manifest.preprocessing, max_pixels, pixel_budget)
    return VerifiedModel(bundle, prepare, GoldenImages(bundle, prepare))


@dataclass(frozen=True)
class Loader:
    """Makes classifiers that share threads, decode pool and metrics. May be called in any thread."""

    settings: Settings
    find_engines: FindEngines
    engine_threads: int
    runner: EngineRunner
    decode_pool: DecodePool
    pixel_budget: PixelBudget
    metrics: Metrics
    pass_log: PassLog

    def load(self, path: Path, run_pass: RunPass) -> Classifier:
        """Verify, then `build`."""
        return self.build(verify_model(path, self.settings.max_pixels, self.pixel_budget), run_pass)

    def build(self, model: VerifiedModel, run_pass: RunPass = timed_pass) -> Classifier:
        """The classifier of a verified model, not yet started; `run_pass` runs the passes that this takes.

        Raises EngineError, GoldenMismatch or what an engine's library raises if no engine serves.
        """
        settings, manifest = self.settings, model.bundle.manifest
        choice = choose_engine(
            self.find_engines(model.bundle, self.engine_threads, settings),
            partial(model.golden.prove, run_pass=run_pass),
            manifest.image_size,
            settings.max_batch_size or LARGEST_BATCH,
            run_pass,
        )
        max_batch_size = settings.max_batch_size or best_batch_size(choice.curve)
        warm_up(choice.engine, manifest.image_size, max_batch_size, run_pass)
        scheduler = Scheduler(
            manifest.name,
            choice.engine,
            self.runner,
            policy=BatchPolicy(
                max_batch_size,
                max_queue_delay=settings.max_queue_delay_ms / 1000,
                longest_pass=max(_SHORTEST_HANG, 20 * max(choice.curve.values())),
                between_passes=self.decode_pool.seconds_before_pass,
            ),
            pass_times=PassTimes(choice.curve),
            metrics=self.metrics,
            pass_log=self.pass_log,
        )
        log.info(
            "serving %s/%s on %s",
            manifest.name,
            manifest.version,
            choice.engine.name,
            extra={
                "precision": manifest.precision,
                "engines": choice.considered,
                "golden_max_abs_error": choice.golden_max_abs_error,
                "pass_ms": {size: round(seconds * 1000, 3) for size, seconds in choice.curve.items()},
                "images_per_second": round(best_rate(choice.curve), 1),
                "max_batch_size": max_batch_size,
            },
        )
        return Classifier(
            model.bundle,
            prepare=model.prepare,
            golden=model.golden,
            decode_pool=self.decode_pool,
            scheduler=scheduler,
            choice=choice,
            patience=Patience(target=settings.latency_target_ms / 1000, deadline=settings.deadline_ms / 1000),
            metrics=self.metrics,
        )
