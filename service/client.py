"""A client of the service, in Python: needs httpx and nothing else of the service's.

What is sent, how answers are read and when to try again is decided here once, without any input or output; the two
clients only carry it out.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

try:
    import httpx
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"{__name__} needs httpx: pip install 'httpx>=0.28'", name="httpx") from missing

_TRY_AGAIN = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds, doubling

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of an answer."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image: predictions, best first."""

    model: str
    version: str
    predictions: tuple[Prediction, ...]
    image: dict[str, Any]  # as it was understood: width, height, format, orientation_applied, ...
    timing_ms: dict[str, float]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Features:
    """The answer for one image: the pooled representation before the head, each number a float32."""

    model: str
    version: str
    features: tuple[float, ...]
    image: dict[str, Any]  # as for a Classification
    timing_ms: dict[str, float]
    request_id: str | None


class MixerError(Exception):
    """There is no answer.

    `status` is that of HTTP, None if the service was not reached; `code` and `reason` are machine-readable
    ("unreachable" or "timeout" without a status); `request_id` finds the request in the service's log.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "unreachable",
        reason: str | None = None,
        request_id: str | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.request_id = request_id
        self.retry_after = retry_after  # seconds

    def __str__(self) -> str:
        where = f"{self.status} {self.code}" if self.status else self.code
        return f"{where}: {super().__str__()}" + (f" (request {self.request_id})" if self.request_id else "")


@dataclass(frozen=True, slots=True)
class _Settings:
    """What both clients are given."""

    url: str
    api_key: str | None = None
    timeout: float = 30.0
    deadline_ms: float | None = None
    retries: int = 3

    def connection(self) -> dict[str, Any]:
        """Arguments of httpx's clients."""
        headers: dict[str, str | bytes] = {}
        if self.api_key is not None:
            headers["x-api-key"] = self.api_key.encode()
        if self.deadline_ms is not None:
            headers["x-deadline-ms"] = f"{self.deadline_ms:g}"
        return {"base_url": self.url, "headers": headers}


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Send the request, and give up after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float


# To be told what to do next, and to tell how an attempt ended: at last, the answer.
_Course = Generator[_Attempt | _Pause, httpx.Response | httpx.TransportError | None, _T]
_Reader = Callable[[Any, str | None], _T]  # of an answer's JSON, and its request's id


def _course(settings: _Settings, reader: _Reader[_T]) -> _Course[_T]:
    """Attempts and pauses until there is an answer, never longer than the timeout in all; else raises MixerError.

    Tried again is what may succeed then: 429, 503 and broken connections, after the service's Retry-After and a
    pause that doubles, by chance up to half as long, so that many clients do not return at once.
    """
    end = time.monotonic() + settings.timeout
    pause = _FIRST_PAUSE
    for attempt in range(settings.retries + 1):
        result = yield _Attempt(max(0.001, end - time.monotonic()))
        try:
            return _read(result, reader)
        except MixerError as error:
            wait = error.retry_after + random.uniform(0.5, 1) * pause
            temporary = error.status in (None, *_TRY_AGAIN) and error.code != "timeout"
            if not temporary or attempt == settings.retries or time.monotonic() + wait >= end:
                raise
        yield _Pause(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def _read(result: httpx.Response | httpx.TransportError | None, reader: _Reader[_T]) -> _T:
    if not isinstance(result, httpx.Response):
        code = "timeout" if isinstance(result, httpx.TimeoutException) else "unreachable"
        raise MixerError(str(result) or type(result).__name__, code=code) from result
    request_id = result.headers.get("x-request-id")
    try:
        body = result.json()
        if result.is_success:
            return reader(body, request_id)
        error = body["error"]
        message, code, reason = error["message"], error["code"], error.get("reason")
    except (ValueError, KeyError, TypeError):  # a proxy's page, or not this service
        message, code, reason = "the answer is not one of this service's", "not_understood", None
    given = result.headers.get("retry-after", "")
    raise MixerError(
        message,
        status=result.status_code,
        code=code,
        reason=reason,
        request_id=request_id,
        retry_after=float(given) if given.isdecimal() else 0.0,
    )


def _classification(body: Any, request_id: str | None) -> Classification:
    return Classification(
        model=body["model"]["name"],
        version=body["model"]["version"],
        predictions=tuple(Prediction(p["index"], p["label"], p["probability"]) for p in body["predictions"]),
        image=body["image"],
        timing_ms=body["timing_ms"],
        request_id=request_id,
    )


def _features(body: Any, request_id: str | None) -> Features:
    return Features(
        model=body["model"]["name"],
        version=body["model"]["version"],
        features=tuple(map(float, body["features"])),
        image=body["image"],
        timing_ms=body["timing_ms"],
        request_id=request_id,
    )


def _given(**parameters: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in parameters.items() if value is not None}


def _each(ask: Callable[[bytes | Path], _T], images: Iterable[bytes | Path], concurrency: int) -> list[_T | MixerError]:
    def answer(image: bytes | Path) -> _T | MixerError:
        try:
            return ask(image)
        except MixerError as error:
            return error

    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(answer, images))


async def _each_async(
    ask: Callable[[bytes | Path], Awaitable[_T]], images: Iterable[bytes | Path], concurrency: int
) -> list[_T | MixerError]:
    places = asyncio.Semaphore(concurrency)

    async def answer(image: bytes | Path) -> _T | MixerError:
        async with places:
            try:
                return await ask(image)
            except MixerError as error:
                return error

    return await asyncio.gather(*map(answer, images))


class MixerClient:
    """Blocks until the answer is there; may be shared by threads. Close it, or use it in a `with` block."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 30.0,
        deadline_ms: float | None = None,
        retries: int = 3,
    ) -> None:
        """`timeout` is in seconds, for one image with all of its attempts; `deadline_ms` is for the service to keep."""
        self._settings = _Settings(url, api_key, timeout, deadline_ms, retries)
        self._http = httpx.Client(**self._settings.connection())

    def classify(
        self, image: bytes | Path, top_k: int = 5, model: str | None = None, version: str | None = None
    ) -> Classification:
        """One image, encoded: its bytes, or the path of its file. Raises MixerError, or OSError for the file."""
        return self._ask("/v1/classify", image, _given(top_k=top_k, model=model, version=version), _classification)

    def classify_many(
        self,
        images: Iterable[bytes | Path],
        top_k: int = 5,
        model: str | None = None,
        version: str | None = None,
        concurrency: int = 8,
    ) -> list[Classification | MixerError]:
        """Several images, so many at once, each with its own attempts; in order, with an error where one failed."""
        return _each(lambda image: self.classify(image, top_k, model, version), images, concurrency)

    def features(self, image: bytes | Path, model: str | None = None, version: str | None = None) -> Features:
        """What the model makes of one image before its head, as `classify` for the rest."""
        return self._ask("/v1/features", image, _given(model=model, version=version), _features)

    def features_many(
        self,
        images: Iterable[bytes | Path],
        model: str | None = None,
        version: str | None = None,
        concurrency: int = 8,
    ) -> list[Features | MixerError]:
        """Those of several images, as `classify_many`."""
        return _each(lambda image: self.features(image, model, version), images, concurrency)

    def ready(self) -> bool:
        """Whether the service can be reached and is ready for traffic."""
        try:
            return self._http.get("/healthz/ready", timeout=self._settings.timeout).is_success
        except httpx.TransportError:
            return False

    def _ask(self, path: str, image: bytes | Path, parameters: dict[str, str | int], reader: _Reader[_T]) -> _T:
        content = image.read_bytes() if isinstance(image, Path) else image
        course = _course(self._settings, reader)
        result: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = course.send(result)
            except StopIteration as answered:
                answer: _T = answered.value
                return answer
            result = None
            if isinstance(step, _Pause):
                time.sleep(step.seconds)
                continue
            try:
                result = self._http.post(path, content=content, params=parameters, timeout=step.seconds)
            except httpx.TransportError as error:
                result = error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncMixerClient:
    """The same for asyncio. Close it, or use it in an `async with` block."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 30.0,
        deadline_ms: float | None = None,
        retries: int = 3,
    ) -> None:
        """As MixerClient."""
        self._settings = _Settings(url, api_key, timeout, deadline_ms, retries)
        self._http = httpx.AsyncClient(**self._settings.connection())

    async def classify(
        self, image: bytes | Path, top_k: int = 5, model: str | None = None, version: str | None = None
    ) -> Classification:
        """One image, encoded: its bytes, or the path of its file. Raises MixerError, or OSError for the file."""
        parameters = _given(top_k=top_k, model=model, version=version)
        return await self._ask("/v1/classify", image, parameters, _classification)

    async def classify_many(
        self,
        images: Iterable[bytes | Path],
        top_k: int = 5,
        model: str | None = None,
        version: str | None = None,
        concurrency: int = 8,
    ) -> list[Classification | MixerError]:
        """Several images, so many at once, each with its own attempts; in order, with an error where one failed."""
        return await _each_async(lambda image: self.classify(image, top_k, model, version), images, concurrency)

    async def features(self, image: bytes | Path, model: str | None = None, version: str | None = None) -> Features:
        """What the model makes of one image before its head, as `classify` for the rest."""
        return await self._ask("/v1/features", image, _given(model=model, version=version), _features)

    async def features_many(
        self,
        images: Iterable[bytes | Path],
        model: str | None = None,
        version: str | None = None,
        concurrency: int = 8,
    ) -> list[Features | MixerError]:
        """Those of several images, as `classify_many`."""
        return await _each_async(lambda image: self.features(image, model, version), images, concurrency)

    async def ready(self) -> bool:
        """Whether the service can be reached and is ready for traffic."""
        try:
            return (await self._http.get("/healthz/ready", timeout=self._settings.timeout)).is_success
        except httpx.TransportError:
            return False

    async def _ask(self, path: str, image: bytes | Path, parameters: dict[str, str | int], reader: _Reader[_T]) -> _T:
        content = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image
        course = _course(self._settings, reader)
        result: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = course.send(result)
            except StopIteration as answered:
                answer: _T = answered.value
                return answer
            result = None
            if isinstance(step, _Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                result = await self._http.post(path, content=content, params=parameters, timeout=step.seconds)
            except httpx.TransportError as error:
                result = error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
