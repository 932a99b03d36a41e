"""One running replica: what it serves, and whether it is fit to."""

import asyncio
from dataclasses import dataclass, field

from service.api.api_keys import ApiKeys
from service.bundles.golden import GoldenMismatch
from service.errors import NotReady, ServiceError
from service.lanes.engine_thread import EngineRunner
from service.metrics import Metrics
from service.models.classifier import Classifier
from service.models.lifecycle import Reloader
from service.models.registry import LoadedModels
from service.scheduling.admission import Admission
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.settings import Settings


@dataclass
class Replica:
    """Everything a request needs."""

    settings: Settings
    cores: float  # allowed when it was built, as the metrics have them
    metrics: Metrics
    api_keys: ApiKeys
    admin_keys: ApiKeys | None  # for changing what is loaded; without a file of them nobody may
    admission: Admission
    runner: EngineRunner
    models: LoadedModels
    reloader: Reloader
    pass_log: PassLog
    loop_lag: LoopLag
    draining: bool = field(default=False, init=False)

    @property
    def classifiers(self) -> list[Classifier]:
        """Those of every loaded version of every model, that of the default model first."""
        return self.models.classifiers

    def start(self) -> None:
        """Begin to serve, on the running event loop."""
        self.loop_lag.start()
        for classifier in self.classifiers:
            classifier.scheduler.start()
        self.metrics.ready.set(1)
        self.metrics.live.set_function(lambda: self.live)

    def drain(self) -> None:
        """Report not ready from now on, while still serving."""
        self.draining = True
        self.reloader.stop()
        self.metrics.draining.set(1)
        self.metrics.ready.set(0)

    async def close(self) -> None:
        """Answer every ticket, then stop."""
        self.drain()
        await self.reloader.close()
        await asyncio.gather(*(classifier.scheduler.close() for classifier in self.classifiers))
        self.loop_lag.stop()
        self.runner.close()

    def find(self, name: str | None, version: str | None) -> Classifier:
        """The classifier of a model, by default the default one, the latest version; raises UnknownModel."""
        return self.models.find(name, version)

    @property
    def live(self) -> bool:
        """False once a scheduler has stopped or its engine hangs: nothing but a restart helps."""
        return self.draining or all(classifier.scheduler.beats for classifier in self.classifiers)

    def check_live(self) -> None:
        """Raise NotReady unless live."""
        if not self.live:
            raise NotReady("a scheduler has stopped or its engine hangs", reason="scheduler_stopped")

    async def check_ready(self) -> None:
        """Raise NotReady unless every model can answer and no shutdown has begun.

        After a failed pass the engine must reproduce a golden image again before the replica counts as ready.
        """
        try:
            if self.draining:
                raise NotReady("the service is shutting down", reason="draining")
            self.check_live()
            for classifier in self.classifiers:
                if classifier.scheduler.alive and not classifier.scheduler.engine_works:  # or it has been unloaded
                    await self._prove(classifier)
        except NotReady:
            self.metrics.ready.set(0)
            raise
        self.metrics.ready.set(1)

    async def _prove(self, classifier: Classifier) -> None:
        try:
            at = asyncio.get_running_loop().time() + self.settings.deadline_ms / 1000
            async with asyncio.timeout_at(at):
                await classifier.check_golden(at)
        except (ServiceError, GoldenMismatch, TimeoutError):
            raise NotReady("the engine does not reproduce its golden images", reason="engine_failing") from None
