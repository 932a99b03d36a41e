"""What is loaded changes while it serves: one change at a time, a new model beside the old one, swapped at once."""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from service.bundles.bundle import BundleError, Versions, choose_bundles, list_bundles, load_bundle, sha256_of
from service.errors import NotLoaded, NotReady, UnknownModel
from service.lanes.lane import LaneLost, LoadFailure
from service.models.classifier import Classifier
from service.models.loader import Loader
from service.models.registry import LoadedModels
from service.scheduling.admission import Admission
from service.settings import Settings

log = logging.getLogger(__name__)

Change = Callable[[], Coroutine[None, None, None]]

_FOLDERS = re.compile(r"(?<![\w./])/([^\s/'\":]+/)*(?=[^\s/])")  # of an absolute path, up to its last name


@dataclass(frozen=True, slots=True)
class BundleState:
    """One version of a model in the repository; `reason` says why it is not ready, or what failed since it is."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class Lifecycle:
    """Loads and unloads models, on the running event loop. Whatever fails leaves what served as it was."""

    def __init__(self, settings: Settings, loader: Loader, models: LoadedModels, admission: Admission) -> None:
        self._settings = settings
        self._loader = loader
        self._models = models
        self._admission = admission
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._retiring: dict[asyncio.Task[None], Classifier] = {}
        self._loading: Path | None = None
        self._failures: dict[tuple[str, str], str] = {}  # by name and version: why the last load failed
        self._stopping = False

    async def load(self, name: str) -> None:
        """Load what the settings ask of a model, or else its latest version, where that is new or has changed.

        Raises UnknownModel if the repository has no such model, NotLoaded if a bundle cannot be used, NotReady at a
        shutdown.
        """
        await self._change(partial(self._load, name))

    async def unload(self, name: str) -> None:
        """Unload all versions of a model; raises UnknownModel, NotLoaded if no other model is left, or NotReady."""
        await self._change(partial(self._unload, name))

    def reload(self) -> asyncio.Task[None]:
        """Begin to serve what a fresh start would serve; what fails is logged."""
        return self._begin(self._reload)

    async def index(self) -> list[BundleState]:
        """The state of every bundle in the repository, and of what is loaded though it is there no longer.

        Raises NotLoaded if the repository cannot be read.
        """
        available = await self._list()
        loaded = [_place(classifier) for classifier in self._models.classifiers]
        there = [(name, version) for name, versions in available.items() for version in versions]
        gone = [place for place in loaded if place not in there]
        self._failures = {place: why for place, why in self._failures.items() if place in there}
        return [self._state(place, place in loaded) for place in there] + [
            BundleState(name=name, version=version, state="READY", reason="no longer in the repository")
            for name, version in gone
        ]

    def _state(self, place: tuple[str, str], loaded: bool) -> BundleState:
        name, version = place
        reason = self._failures.get(place, "")
        if loaded:
            return BundleState(name=name, version=version, state="READY", reason=reason)
        if self._loading and _place(self._loading) == place:
            return BundleState(name=name, version=version, state="LOADING", reason="")
        return BundleState(name=name, version=version, state="UNAVAILABLE", reason=reason or "not loaded")

    def stop(self) -> None:
        """Give up what is being loaded, and load nothing more: no shutdown waits for a load."""
        self._stopping = True
        for change in self._changes:
            change.cancel()

    async def close(self) -> None:
        """Stop the models that are being retired; every request has been answered."""
        self.stop()
        for retirement, classifier in list(self._retiring.items()):
            retirement.cancel()
            await classifier.close()

    async def _change(self, change: Change) -> None:
        """Make one change and wait for it; it comes to its end even if nobody waits any more."""
        task = self._begin(change)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise NotReady("the service is shutting down", reason="draining") from None

    def _begin(self, change: Change) -> asyncio.Task[None]:
        async def in_turn() -> None:
            async with self._turn:
                await change()

        task = asyncio.create_task(in_turn(), name="reload")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        if self._stopping:
            task.cancel()
        return task

    async def _load(self, name: str) -> None:
        available = await self._list()
        asked = [model for model in self._settings.models if model.partition("/")[0] == name]
        paths, _ = choose_bundles({name: available.get(name, {})}, asked or [name])
        if not paths:
            raise UnknownModel("the repository has no such model or version")
        failures = await self._serve(name, paths)
        if failures:
            raise NotLoaded("; ".join(failures), reason="bundle")

    async def _unload(self, name: str) -> None:
        versions = self._models.versions(name)
        if not versions:
            raise UnknownModel("no such model is loaded")
        if len(versions) == len(self._models.classifiers):
            raise NotLoaded("no other model is loaded, so this one stays", reason="only_model")
        self._swap(remove=versions)

    async def _reload(self) -> None:
        try:
            available = await self._list()
        except NotLoaded as error:
            log.error("nothing is reloaded: %s", error)
            return
        paths, missing = choose_bundles(available, self._settings.models)
        if missing:
            log.error("the repository has no %s", ", ".join(missing))
        names = dict.fromkeys(path.parent.name for path in paths)
        failures = []
        for name in names:
            failures += await self._serve(name, [path for path in paths if path.parent.name == name])
        gone = [classifier for classifier in self._models.classifiers if classifier.manifest.name not in names]
        if len(gone) < len(self._models.classifiers):
            self._swap(remove=gone)
        else:
            log.error("nothing is unloaded: the repository has no model that could serve instead")
        serving = ["/".join(_place(classifier)) for classifier in self._models.classifiers]
        log.info("reloaded", extra={"failures": failures, "serving": serving})

    async def _list(self) -> dict[str, Versions]:
        try:
            return await asyncio.to_thread(list_bundles, self._settings.model_repository)
        except BundleError as error:
            raise NotLoaded(self._public(error), reason="repository") from None

    async def _serve(self, name: str, paths: list[Path]) -> list[str]:
        """Have `paths` be the loaded versions of a model; says what failed, in which case none is unloaded."""
        failures = []
        for path in paths:
            old = [classifier for classifier in self._models.versions(name) if _place(classifier) == _place(path)]
            self._loading = path
            try:
                new = await self._load_unless(path, [classifier.bundle_sha256 for classifier in old])
            except Exception as error:  # whatever a library raises: what serves goes on
                failures.append(self._failed(path, error))
                continue
            finally:
                self._loading = None
            self._failures.pop((name, path.name), None)
            if new:
                new.metrics.loads["ok"].inc()
                self._swap(add=[new], remove=old)
        if not failures:
            versions = [path.name for path in paths]
            self._swap(remove=[c for c in self._models.versions(name) if c.manifest.version not in versions])
        return failures

    async def _load_unless(self, path: Path, loaded: list[str]) -> Classifier | None:
        """The classifier, or None if an intact bundle of the same sha256 is loaded."""

        def is_loaded() -> bool:
            manifest = path / "manifest.json"
            if not loaded or not manifest.is_file() or sha256_of(manifest) not in loaded:
                return False
            load_bundle(path.resolve())  # what would not start again is said now
            return True

        if await asyncio.to_thread(is_loaded):
            return None
        return await self._loader.load(path, 1 + len(self._models.classifiers))

    def _failed(self, path: Path, error: Exception) -> str:
        name, version = place = _place(path)
        foreseen = isinstance(error, (BundleError, LoadFailure, LaneLost, MemoryError, OSError))
        log.error("%s/%s is not loaded: %s", name, version, error, exc_info=None if foreseen else error)
        self._loader.metrics.model_loads.labels(name, "failed").inc()
        self._failures[place] = self._public(error)
        return f"{name}/{version}: {self._failures[place]}"

    def _public(self, error: Exception) -> str:
        """What a client may read: no folder of this machine."""
        return _FOLDERS.sub("", str(error).replace(f"{self._settings.model_repository}/", "")) or type(error).__name__

    def _swap(self, *, add: Collection[Classifier] = (), remove: Collection[Classifier] = ()) -> None:
        for classifier in add:
            classifier.start()
        self._models.change(add=add, remove=remove)
        for classifier in remove:
            retirement = asyncio.create_task(self._retire(classifier), name="retire")
            self._retiring[retirement] = classifier
            retirement.add_done_callback(self._retiring.pop)

    async def _retire(self, classifier: Classifier) -> None:
        """Let it answer whoever was sent to it; what it held is free once the last of them is gone."""
        await self._admission.wait_until_left(classifier)
        await classifier.close()
        self._loader.metrics.remove_model(classifier.metrics)
        log.info("unloaded %s/%s", *_place(classifier))


def _place(of: Classifier | Path) -> tuple[str, str]:
    """Name and version of a model or of a bundle."""
    return (of.parent.name, of.name) if isinstance(of, Path) else (of.manifest.name, of.manifest.version)
