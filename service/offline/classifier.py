"""A bundle as a Python object: images in, predictions out, in the lanes that the service has, without HTTP."""

import json
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np

from service.arrays import FeatureBatch, Features
from service.bundles.bundle import Bundle, find_bundles, load_bundle
from service.bundles.manifest import Manifest
from service.host import allowed_cores, memory_limit
from service.lanes.lane import Answer
from service.lanes.orders import LoadOrder
from service.lanes.postprocess import Prediction
from service.lanes.process import StartedLane
from service.lanes.shape import CPU_PROVIDERS, choose_shape
from service.offline.batches import Answers, Batches
from service.offline.image_input import ImageInput
from service.settings import EngineName, default_repository

_BATCH = 16  # images: engines gain nothing by more on a core


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image: predictions, best first, of which a model without a head has none."""

    model: str
    version: str
    predictions: tuple[Prediction, ...]
    image: dict[str, Any]  # as it was understood: width, height, format, orientation_applied, ...
    features: Features | None = field(default=None, compare=False)  # where they were asked for


Outcome = Classification | Exception  # why there is no answer: ServiceError, OSError, ValueError, ...


class Classifier:
    """A model that is loaded, in lanes that share the cores.

    Images are decoded and passed as `mixer-serve` does; a decoder's crash is an error of that one image. May be shared
    by threads. Close it, use it in a `with` block, or let it go.
    """

    def __init__(self, bundle: Bundle, batches: Batches, batch_size: int) -> None:
        """Use `load`."""
        self.bundle = bundle
        self._batches = batches
        self._batch_size = batch_size
        self.close = weakref.finalize(self, batches.close)  # at the interpreter's end too

    @classmethod
    def load(
        cls,
        bundle: str | PathLike[str],
        *,
        engine: EngineName = "auto",
        providers: Sequence[str] = CPU_PROVIDERS,
        lanes: int = 0,
        threads: int = 0,
        max_batch_size: int = 0,
        max_pixels: int = 50_000_000,
        repository: str | PathLike[str] | None = None,
    ) -> Self:
        """A verified bundle, ready to classify: a path, or "name" or "name/version" of a model repository.

        The rest means what it does for the service; see docs/settings.md. The repository is ./models where it exists,
        else the one that is installed with the service.

        Raises BundleError if it cannot be trusted, LoadFailure or LaneLost if it cannot be loaded,
        MemoryError if it does not fit, ValueError if more lanes and threads are asked for than there are cores or a
        number is negative, OSError if no process can be had.
        """
        numbers = {"lanes": lanes, "threads": threads, "max_batch_size": max_batch_size, "max_pixels": max_pixels}
        for name, number in numbers.items():
            if number < 0:
                raise ValueError(f"{name} is {number}; it must not be negative")
        verified = load_bundle(find_bundle(bundle, repository).resolve())
        shape = choose_shape(
            allowed_cores(),
            verified.model_path.stat().st_size,
            memory_limit(),
            lanes=lanes,
            threads=threads,
            providers=providers,
        )
        order = LoadOrder(
            bundle=str(verified.path),
            engine=engine,
            providers=list(providers),
            threads=shape.threads,
            wide_threads=0,
            max_batch_size=max_batch_size or _BATCH,
            max_pixels=max_pixels,
            memory=shape.lane_memory,
            measure=False,
            warm=False,
        )
        batches = Batches(verified, StartedLane)
        try:
            loaded = batches.start(order, shape.lanes)
        except BaseException:
            batches.close()
            raise
        return cls(verified, batches, loaded.max_batch_size)

    @overload
    def classify(self, images: ImageInput, top_k: int = 5) -> Classification: ...

    @overload
    def classify(self, images: list[ImageInput] | tuple[ImageInput, ...], top_k: int = 5) -> list[Outcome]: ...

    def classify(self, images: Any, top_k: int = 5) -> Classification | list[Outcome]:
        """One image, or a list of them: a path, encoded bytes, a Pillow image, or an array, uint8 [H, W, 3] RGB.

        Of a list the answers are in its order, with an exception in the place of an image that has none. For one
        image it is raised: InvalidImage and the other ServiceErrors of `service.errors`, OSError for a file that cannot
        be read, TypeError and ValueError for what is not taken for an image. ValueError if the model has no head.
        """
        _check_top_k(top_k)
        if isinstance(images, list | tuple):
            return list(self._answer_list(images, top_k, False))
        return _answer_or_raise(self._answer_list([images], top_k, False))

    @overload
    def features(self, images: ImageInput) -> Features: ...

    @overload
    def features(self, images: list[ImageInput] | tuple[ImageInput, ...]) -> FeatureBatch: ...

    def features(self, images: Any) -> Features | FeatureBatch:
        """What the model makes of an image before its head: float32 [size] of one, [n, size] of a list.

        For one image the exceptions are those of `classify`. Where images of a list have no features, an
        ExceptionGroup of theirs is raised, each with a note of its place; `stream` gives the others nevertheless.
        ValueError if the model's bundle is older than features.
        """
        if not isinstance(images, list | tuple):
            answer = _answer_or_raise(self._answer_list([images], None, True))
            assert answer.features is not None
            return answer.features
        manifest = self.bundle.manifest
        outcomes = self._answer_list(images, None, True)
        assert manifest.features
        rows = np.empty((len(images), manifest.features.size), np.float32)
        failed = []
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                outcome.add_note(f"image {place} of the list")
                failed.append(outcome)
            else:
                rows[place] = outcome.features
        if failed:
            raise ExceptionGroup(f"{len(failed)} of {len(images)} images have no features", failed)
        return rows

    def stream(self, images: Iterable[ImageInput], top_k: int = 5, *, features: bool = False) -> Iterator[Outcome]:
        """As many images as there are, with few of them in memory; the answers come in their order.

        With `features` they have those too, and without a head those alone.
        """
        _check_top_k(top_k)
        return self._outcomes(images, top_k, features, self._batch_size)

    def _answer_list(self, images: Sequence[ImageInput], top_k: int | None, features: bool) -> Iterator[Outcome]:
        each = -(-len(images) // self._batches.lanes)
        return self._outcomes(images, top_k, features, min(each, self._batch_size))

    def _outcomes(
        self, images: Iterable[ImageInput], top_k: int | None, features: bool, size: int
    ) -> Iterator[Outcome]:
        """In batches of `size`."""
        check_gives(self.bundle.manifest, features=features)
        if not self.close.alive:
            raise RuntimeError("the classifier is closed")
        return self._in_order(iter(images), top_k if self.bundle.manifest.classes else None, features, size)

    def _in_order(
        self, images: Iterator[ImageInput], top_k: int | None, features: bool, size: int
    ) -> Iterator[Outcome]:
        most = 2 * self._batches.lanes + 2  # so that lanes find the next batch read
        waiting: deque[Future[Answers]] = deque()
        while batch := list(islice(images, size)):
            waiting.append(self._batches.submit(batch, top_k, features))
            if len(waiting) == most:
                yield from self._read(waiting.popleft().result(), features)
        while waiting:
            yield from self._read(waiting.popleft().result(), features)

    def _read(self, answers: Answers, features: bool) -> Iterator[Outcome]:
        for answer in answers:
            yield answer if isinstance(answer, Exception) else self._told(answer, features)

    def _told(self, answer: Answer, features: bool) -> Classification:
        manifest = self.bundle.manifest
        told, behind = answer.answer, None
        if features:
            assert manifest.features
            end = len(told) - manifest.features.size * np.dtype(np.float32).itemsize
            behind = np.frombuffer(told, np.float32, offset=end).copy()  # which may be written to
            told = told[:end]
        predictions = tuple(Prediction(**each) for each in json.loads(told)) if told else ()
        return Classification(manifest.name, manifest.version, predictions, json.loads(answer.image), behind)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_gives(manifest: Manifest, *, features: bool) -> None:
    """Raise ValueError if the model has no head for predictions, or if `features`, has none of those."""
    model = f"{manifest.name}/{manifest.version}"
    if features and not manifest.features:
        raise ValueError(f"the bundle of {model} is of a time when there were no features; export it again")
    if not features and not manifest.classes:
        raise ValueError(f"{model} has no head, so it predicts nothing; its features can be had (--features)")


def _check_top_k(top_k: object) -> None:
    if not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}; it must be a whole number from 1 on")


def _answer_or_raise(outcomes: Iterator[Outcome]) -> Classification:
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def find_bundle(named: str | PathLike[str], repository: str | PathLike[str] | None = None) -> Path:
    """The path of a bundle that is given by its path, or by its name and perhaps version; raises BundleError."""
    path = Path(named)
    if (path / "manifest.json").is_file():
        return path
    (found,) = find_bundles(Path(repository or default_repository()), [str(named)])
    return found
