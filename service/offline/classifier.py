"""A bundle as a Python object: images in, predictions out, in the lanes that the service has, without HTTP."""

import json
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

from service.bundles.bundle import Bundle, BundleError, find_bundles, load_bundle
from service.host import allowed_cores, memory_limit
from service.lanes.lane import Answer
from service.lanes.orders import LoadOrder
from service.lanes.postprocess import Prediction
from service.lanes.process import StartedLane
from service.lanes.shape import choose_shape
from service.offline.batches import Answers, Batches
from service.offline.source import ImageInput
from service.settings import EngineName, default_repository

_CPU = ("CPUExecutionProvider",)
_BATCH = 16  # images: engines gain nothing by more on a core


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image: predictions, best first."""

    model: str
    version: str
    predictions: tuple[Prediction, ...]
    image: dict[str, Any]  # as it was understood: width, height, format, orientation_applied, ...


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
        providers: Sequence[str] = _CPU,
        lanes: int = 0,
        threads: int = 0,
        max_batch_size: int = 0,
        max_pixels: int = 50_000_000,
        repository: str | PathLike[str] | None = None,
    ) -> Self:
        """A verified bundle, ready to classify: a path, or "name" or "name/version" of a model repository.

        The rest means what it does for the service; see docs/settings.md. The repository is ./models where it exists,
        else the one that is installed with the service.

        Raises BundleError if it cannot be trusted or has no head, LoadFailure or LaneLost if it cannot be loaded,
        MemoryError if it does not fit, ValueError if more lanes and threads are asked for than there are cores, OSError
        if no process can be had.
        """
        verified = load_bundle(find_bundle(bundle, repository).resolve())
        if not verified.manifest.classes:
            raise BundleError(f"{verified.path}: the model has no head, so it predicts nothing")
        shape = choose_shape(
            allowed_cores(),
            verified.model_path.stat().st_size,
            memory_limit(),
            lanes=lanes,
            threads=threads,
            on_gpu=tuple(providers) != _CPU,
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
        be read, TypeError and ValueError for what is not taken for an image.
        """
        if isinstance(images, list | tuple):
            return list(self._outcomes(images, top_k, -(-len(images) // self._batches.lanes)))
        (outcome,) = self._outcomes([images], top_k)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stream(self, images: Iterable[ImageInput], top_k: int = 5) -> Iterator[Outcome]:
        """As many images as there are, with few of them in memory; the answers come in their order."""
        return self._outcomes(images, top_k)

    def _outcomes(self, images: Iterable[ImageInput], top_k: int, each: int | None = None) -> Iterator[Outcome]:
        """In batches of at most `each`."""
        if not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f"top_k is {top_k!r}; it must be a whole number from 1 on")
        if not self.close.alive:
            raise RuntimeError("the classifier is closed")
        return self._in_order(iter(images), top_k, min(each or self._batch_size, self._batch_size))

    def _in_order(self, images: Iterator[ImageInput], top_k: int, size: int) -> Iterator[Outcome]:
        most = 2 * self._batches.lanes + 2  # so that lanes find the next batch read
        waiting: deque[Future[Answers]] = deque()
        while batch := list(islice(images, size)):
            waiting.append(self._batches.submit(batch, top_k))
            if len(waiting) == most:
                yield from map(self._read, waiting.popleft().result())
        while waiting:
            yield from map(self._read, waiting.popleft().result())

    def _read(self, answer: Answer | Exception) -> Outcome:
        if isinstance(answer, Exception):
            return answer
        manifest = self.bundle.manifest
        predictions = tuple(Prediction(**each) for each in json.loads(answer.answer))
        return Classification(manifest.name, manifest.version, predictions, json.loads(answer.image))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def find_bundle(named: str | PathLike[str], repository: str | PathLike[str] | None = None) -> Path:
    """The path of a bundle that is given by its path, or by its name and perhaps version; raises BundleError."""
    path = Path(named)
    if (path / "manifest.json").is_file():
        return path
    (found,) = find_bundles(Path(repository or default_repository()), [str(named)])
    return found
