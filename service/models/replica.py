"""One running replica: what it serves, and whether it is fit to."""

import asyncio
from dataclasses import dataclass, field

from service.bundles.bundle import BundleError, find_bundles
from service.errors import NotReady
from service.metrics import Metrics
from service.models.lifecycle import Lifecycle
from service.models.loader import Loader
from service.models.registry import LoadedModels
from service.scheduling.admission import Admission
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.settings import Settings


@dataclass
class Replica:
    """Everything that a request needs, and its life from the first model to the last answer."""

    settings: Settings
    cores: float  # allowed when it was built, as the metrics have them
    metrics: Metrics
    loader: Loader
    admission: Admission
    models: LoadedModels
    lifecycle: Lifecycle
    pass_log: PassLog
    loop_lag: LoopLag
    draining: bool = field(default=False, init=False)

    async def start(self) -> None:
        """Load, verify, measure, warm up and prove every model, then begin to serve.

        Raises BundleError, LoadFailure or LaneLost if one cannot be served, MemoryError if they do not fit in the
        memory limit, ValueError if the settings ask for more than there is.
        """
        try:
            paths = await asyncio.to_thread(find_bundles, self.settings.model_repository, self.settings.models)
        except BundleError as error:
            raise BundleError(f"MIXER_MODEL_REPOSITORY {error}") from None
        # One after the other: two that are measured at once would disturb each other.
        classifiers = [await self.loader.load(path, len(paths)) for path in paths]
        for classifier in classifiers:
            classifier.start()
        self.models.change(add=classifiers)
        self.metrics.cores.set(self.cores)  # once loading is over: alerts on replicas look here
        self.loop_lag.start()
        self.metrics.ready.set(1)
        self.metrics.live.set_function(lambda: self.live)

    def drain(self) -> None:
        """Report not ready from now on, while still serving."""
        self.draining = True
        self.lifecycle.stop()
        self.metrics.draining.set(1)
        self.metrics.ready.set(0)

    async def close(self) -> None:
        """Answer every ticket, then stop."""
        self.drain()
        await self.lifecycle.close()
        await asyncio.gather(*(classifier.close() for classifier in self.models.classifiers))
        self.loop_lag.stop()

    @property
    def live(self) -> bool:
        """False once a model has no lane and none can be started: nothing but a restart helps."""
        return self.draining or all(classifier.serves for classifier in self.models.classifiers)

    def check_live(self) -> None:
        """Raise NotReady unless live."""
        if not self.live:
            raise NotReady("a model has no lane, and none can be started", reason="no_lane")

    def check_ready(self) -> None:
        """Raise NotReady unless every model has a proven lane and no shutdown has begun."""
        try:
            if self.draining:
                raise NotReady("the service is shutting down", reason="draining")
            if not all(classifier.lanes.ready for classifier in self.models.classifiers):
                raise NotReady("a model has no lane at the moment", reason="no_lane")
        except NotReady:
            self.metrics.ready.set(0)
            raise
        self.metrics.ready.set(1)
