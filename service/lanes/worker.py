"""One model in one lane: encoded images -> pixels -> logits and features -> answers."""

import json
import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from service.arrays import FEATURES, LOGITS, LogitBatch, Logits, PixelBatch, Pixels
from service.bundles.bundle import Bundle, load_bundle
from service.bundles.golden import GoldenImages
from service.engines.choice import Build, choose_engine
from service.engines.curve import batch_sizes_up_to, best_batch_size
from service.engines.engine import Engine
from service.engines.measuring import measure_decode_seconds, measure_pass_seconds, warm_up
from service.errors import ServiceError
from service.images.decode import ImageInfo
from service.images.preprocess import preparation
from service.lanes.memory import give_back, held_bytes
from service.lanes.orders import Loaded, LoadOrder
from service.lanes.postprocess import Predictions

FindEngines = Callable[[Bundle, int, str, list[str]], dict[str, Build]]

_LARGEST_BATCH = 16  # of those to choose among
_LARGE = 0.05  # seconds of decoding, of an image that takes memory worth the millisecond that giving it back takes
_TURNS = 2  # in which they are compared
_WORTH_IT = 0.9  # of a pass's time on the lane's own threads: more is no reason for a second engine


@dataclass(frozen=True, slots=True)
class _Decoded:
    pixels: Pixels
    info: ImageInfo
    seconds: float


class Worker:
    """A model that is measured, warm and proven on its golden images."""

    def __init__(self, order: LoadOrder, find_engines: FindEngines) -> None:
        """Raises BundleError, EngineError, GoldenMismatch, or what an engine's library raises."""
        bundle = load_bundle(Path(order.bundle), verified=True)  # by the front
        self._side, self._classes = bundle.manifest.image_size, bundle.manifest.classes
        self._prepare = preparation(bundle.manifest.preprocessing, order.max_pixels)
        self._golden = GoldenImages(bundle, self._prepare)
        self._predictions = Predictions(bundle.labels, self._classes)
        self.works = True  # until its engine fails on images that it is known to answer
        self._longest_decode = 0.0  # seconds, in the last batch

        def engines(threads: int, wanted: str) -> dict[str, Build]:
            return find_engines(bundle, threads, wanted, order.providers)

        choice = choose_engine(engines(order.threads, order.engine), self._prove, self._side)
        self._engine = self._wide = choice.engine
        curve = {}
        if order.measure:
            sizes = batch_sizes_up_to(order.max_batch_size or _LARGEST_BATCH)
            curve = measure_pass_seconds(choice.engine, self._side, sizes)
        max_batch_size = order.max_batch_size or best_batch_size(curve)
        if order.warm:
            warm_up(choice.engine, self._side, max_batch_size)
        wide_seconds = 0.0
        if order.wide_threads > order.threads:
            wide_seconds = self._widen(engines(order.wide_threads, choice.name)[choice.name])
        decode_seconds = 0.0
        if order.measure:  # whatever an operator's limit of pixels is
            decode_seconds = measure_decode_seconds(preparation(bundle.manifest.preprocessing, sys.maxsize))
        give_back()
        self.loaded = Loaded(
            engine=choice.name,
            description=choice.engine.name,
            considered=choice.considered,
            golden_max_abs_error=choice.golden_max_abs_error,
            max_batch_size=max_batch_size,
            pass_seconds=curve,
            wide_seconds=wide_seconds,
            decode_seconds=decode_seconds,
            held_bytes=held_bytes(),
        )

    def answer(
        self, order: dict[str, Any], body: memoryview, on_decoded: Callable[[], None]
    ) -> tuple[object, list[bytes]]:
        """Each image's own answer or error, and when decoding and the pass began and ended (perf_counter seconds).

        `on_decoded` is called before the pass if the order asks for that. Once decoding has taken the order's `budget`,
        in seconds, the images that are not begun are left for another batch.
        """
        began, at = time.perf_counter(), 0
        outcomes: list[Any] = []
        ended, self._longest_decode = began, 0.0
        for size, _, is_pixels, _ in order["items"]:
            if outcomes and ended - began > order["budget"]:
                outcomes.append({"left": True})
                continue
            outcomes.append(self._decode(body[at : at + size], is_pixels))
            at += size
            started, ended = ended, time.perf_counter()
            self._longest_decode = max(self._longest_decode, ended - started)
        if order["tell_decoded"]:
            on_decoded()
        decoded = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, _Decoded)]
        engine = self._wide if order["wide"] else self._engine
        pass_started = time.perf_counter()
        with_features = any(features for _, _, _, features in order["items"])
        rows = self._pass(engine, [outcomes[place].pixels for place in decoded], with_features)
        pass_ended = time.perf_counter()
        parts: list[bytes] = []
        for place, row in zip(decoded, rows, strict=True):
            if isinstance(row, Exception):
                outcomes[place] = _fault(row)
                continue
            image = outcomes[place]
            info = _as_json(image.info)
            answer = self._answer(row, *order["items"][place])
            outcomes[place] = [len(answer), len(info), image.seconds]
            parts += [answer, info]
        return {"began": began, "pass": [pass_started, pass_ended], "items": outcomes}, parts

    def tidy(self) -> None:
        """What is to be done once a batch is answered: memory that a large image took goes back to the kernel."""
        if self._longest_decode > _LARGE:
            give_back()

    def _answer(self, row: Logits, _size: int, top_k: int | None, _is_pixels: bool, features: bool) -> bytes:
        """What an Item asks for, of the logits and the features behind them."""
        logits, behind = row[: self._classes], row[self._classes :]
        answer = b""
        if top_k == 0:
            answer = logits.tobytes()
        elif top_k:
            answer = self._predictions.json(logits, top_k).encode()
        return answer + behind.tobytes() if features else answer

    def _decode(self, data: memoryview, is_pixels: bool) -> _Decoded | dict[str, object]:
        started = time.perf_counter()
        try:
            if is_pixels:
                pixels = np.frombuffer(data, np.uint8).reshape(self._side, self._side, 3)
                info = ImageInfo(self._side, self._side, "pixels", orientation_applied=False)
            else:
                pixels, info = self._prepare(bytes(data))
        except ServiceError as error:
            return {"error": type(error).__name__, "message": error.message, "reason": error.reason}
        except Exception as error:  # MemoryError among them: a fault of ours, not of the image
            return _fault(error)
        return _Decoded(pixels, info, time.perf_counter() - started)

    def _pass(
        self, engine: Engine, pixels: list[Pixels], with_features: bool, again: bool = False
    ) -> list[Logits | Exception]:
        """The logits of each, and behind them its features if a batch is `with_features`.

        If the pass fails, each is passed `again`, alone, so that only the culprit fails.
        """
        if not pixels:
            return []
        try:
            batch = np.stack(pixels)
            rows = self._with_features(engine, batch) if with_features else engine.run(batch)
            if rows.shape[0] != len(pixels) or not np.isfinite(rows).all():
                raise RuntimeError(f"the engine answered {rows.shape} for {len(pixels)} images, or not with numbers")
            return list(rows)
        except Exception as error:
            if not again:
                return [row for one in pixels for row in self._pass(self._engine, [one], with_features, again=True)]
            self._prove_again()
            return [error]

    def _with_features(self, engine: Engine, batch: PixelBatch) -> LogitBatch:
        outputs = engine.outputs(batch)
        return np.hstack([outputs[LOGITS], outputs[FEATURES]]) if self._classes else outputs[FEATURES]

    def _prove_again(self) -> None:
        try:
            self._prove(self._engine)
        except Exception:
            self.works = False

    def _prove(self, engine: Engine) -> float:
        return self._golden.prove(engine)

    def _widen(self, build: Build) -> float:
        """Take an engine on all cores for an image that is alone, if it is faster and changes no bit of an answer.

        Returns the seconds of its pass over one image, or 0.
        """
        wide = build()
        self._prove(wide)

        def lone_seconds(engine: Engine) -> float:
            return measure_pass_seconds(engine, self._side, [1])[1]

        # In turn, since all cores are less often free at once than one is.
        narrow_seconds = wide_seconds = math.inf
        for _ in range(_TURNS):
            narrow_seconds = min(narrow_seconds, lone_seconds(self._engine))
            wide_seconds = min(wide_seconds, lone_seconds(wide))
        same = all(np.array_equal(wide.run(one), self._engine.run(one)) for one in self._golden.pixels[:, None])
        if not same or wide_seconds > _WORTH_IT * narrow_seconds:
            return 0.0
        self._wide = wide
        return wide_seconds


@lru_cache(256)
def _as_json(info: ImageInfo) -> bytes:
    return json.dumps(asdict(info)).encode()


def _fault(error: Exception) -> dict[str, object]:
    """What the front logs, and no client reads."""
    return {"fault": "".join(traceback.format_exception(error))}
