"""Every metric's name, help text and buckets, and nothing else names one (contract: prefix mixer_, base units)."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any, Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

# Roughly geometric from 0.1 ms to 10 s; round thresholds that objectives are written in are exact edges.
_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_EDGES = [*map(floatToGoString, _SECONDS), "+Inf"]
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

OUTCOMES = ("ok", "invalid", "rejected", "expired", "cancelled", "error")
KEY_OUTCOMES = ("ok", "rate_limited")
IMAGE_STAGES = ("decode", "queue", "infer", "post")
REJECTION_REASONS = ("deadline", "inflight_images", "inflight_bytes", "event_loop", "no_lane")
PASS_REASONS = ("idle", "full", "delay", "deadline", "drain")
ENDED_REASONS = ("idle", "connections", "slow_upload", "inflight_bytes", "slow_reader", "half_closed", "shutdown")
LOAD_OUTCOMES = ("ok", "failed")
RESTART_REASONS = ("crash", "hang", "memory")
INFO = ("model", "version", "variant", "precision", "engine", "sha256")


_Series_co = TypeVar("_Series_co", covariant=True)


class Rate:
    """Events per second over a trailing window, in one-second slots."""

    def __init__(self, window_seconds: int = 10) -> None:
        self._window = window_seconds
        self._slots: deque[list[int]] = deque()  # [second, events]

    def add(self, events: int) -> None:
        """Count events that happened now."""
        now = int(time.monotonic())
        if self._slots and self._slots[-1][0] == now:
            self._slots[-1][1] += events
        else:
            self._slots.append([now, events])
            while self._slots[0][0] < now - self._window:
                self._slots.popleft()

    def per_second(self) -> float:
        """Mean rate over the last whole seconds of the window (the running second is left out)."""
        now = int(time.monotonic())
        return sum(events for second, events in tuple(self._slots) if now - self._window <= second < now) / self._window


class _Quick:
    """A metric that takes a microsecond or less to add to, where the client library's takes four.

    Added to on one thread; collected on any.
    """

    numbers = 1  # in a series
    family: Callable[..., Metric] = CounterMetricFamily

    def __init__(self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        """A series need not have all `labels`: it may leave out the last ones."""
        self._name, self._text, self._labels = name, text, labels
        self._series: dict[tuple[str, ...], list[float]] = {}  # by labels
        registry.register(self)

    def labels(self, *labels: str) -> list[float]:
        """The series of these labels, to be added to."""
        return self._series.setdefault(labels, [0.0] * self.numbers)

    def remove(self, *labels: str) -> None:
        """Show those of these labels no more; whoever still adds to them does so unseen."""
        self._series.pop(labels, None)

    def describe(self) -> Iterator[Metric]:
        """Its name, for the registry: by that a scrape may ask for it alone."""
        yield self.family(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """As the client library asks."""
        family = self.family(self._name, self._text, labels=self._labels)
        for labels, series in list(self._series.items()):
            self.show(family, labels, series)
        yield family

    @staticmethod
    def show(family: Any, labels: tuple[str, ...], series: list[float]) -> None:
        """Add a series to what a scrape is told."""
        family.add_metric(labels, series[0])


class Counts(_Quick):
    """A counter: of a series `[0] += 1` counts one more."""


class Levels(_Quick):
    """A gauge, likewise."""

    family = GaugeMetricFamily


class Durations(_Quick):
    """A histogram of seconds."""

    numbers = len(_SECONDS) + 2  # a count for each bucket, then the sum
    family = HistogramMetricFamily

    @staticmethod
    def add(series: list[float], seconds: float) -> None:
        """Count one."""
        series[bisect_left(_SECONDS, seconds)] += 1
        series[-1] += seconds

    @staticmethod
    def show(family: Any, labels: tuple[str, ...], series: list[float]) -> None:
        """Add a series to what a scrape is told."""
        *counts, total = series
        family.add_metric(labels, list(zip(_EDGES, accumulate(counts), strict=True)), total)


class Metrics:
    """The service's metrics in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mixer_{name}", text, labels, registry=registry)

        def counts(name: str, text: str, *labels: str) -> Counts:
            return Counts(f"mixer_{name}", text, labels, registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"mixer_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"mixer_{name}", text, labels, buckets=buckets, registry=registry)

        version = ("model", "version")  # what is counted of a model tells its versions apart
        self.requests = counts("requests_total", "Requests answered; a gRPC call has HTTP's code.", "route", "code")
        self.key_requests = counter(
            "key_requests_total", "Requests by API key; ok: the key let them in.", "key", "outcome"
        )
        self.images = counts("images_total", "Images by how they ended; each ends exactly once.", *version, "outcome")
        self.rejections = counter(
            "rejections_total", "Images refused, at the door or once their body told more, by why.", *version, "reason"
        )
        self.admitted_images = counts("admitted_images_total", "Images let in.", *version)
        self._request_duration = Durations(
            "mixer_request_duration_seconds",
            "Time from request head to last byte handed over.",
            ("route", "code"),
            registry,
        )
        self.stage_duration = Durations(
            "mixer_stage_duration_seconds",
            "Time of one image in a stage; receive: of a request's body.",
            ("stage", *version),
            registry,
        )
        self._receive = self.stage_duration.labels("receive")
        self.batch_size = histogram("batch_size", "Images in a pass.", _BATCH_SIZES, *version)
        self.passes = counter("passes_total", "Engine passes by why the batch was frozen.", *version, "reason")
        self.queue_depth = Levels("mixer_queue_depth", "Images waiting for a lane.", version, registry)
        self.inflight_images = gauge("inflight_images", "Images accepted and not yet answered.")
        self.ready = gauge("ready", "1 while the service is ready for traffic.")
        self.live = gauge("live", "0 once a model has no lane and none can be started.")
        self.live.set(1)
        self.draining = gauge("draining", "1 from SIGTERM on.")
        self.drain_lost_images = counter("drain_lost_images_total", "Accepted images left unanswered by a shutdown.")
        self.connections = gauge("connections", "Open connections of clients.")
        self.connections_ended = counter(
            "connections_ended_total", "Connections that the service ended, or refused a request on, by why.", "reason"
        )
        for reason in ENDED_REASONS:
            self.connections_ended.labels(reason)
        self.cores = gauge("cores", "Cores allowed by affinity and CPU quota.")
        self.lanes = gauge("lanes", "Lanes that should serve, of all models.")
        self.lanes_ready = gauge("lanes_ready", "Lanes that serve, each proven on the golden images.")
        self.lane_threads = gauge("lane_threads", "Threads of a pass in a lane.")
        self.lane_restarts = counter("lane_restarts_total", "Lanes that were lost and replaced, by why.", "reason")
        for reason in RESTART_REASONS:
            self.lane_restarts.labels(reason)
        self.front_cpu_seconds = counter(
            "front_cpu_seconds_total",
            "CPU time of the front's event loop, which is one thread: at 1 a second it is full.",
        )
        self.engine_core_seconds = counter("engine_core_seconds_total", "Pass wall time times its threads.", *version)
        self.images_per_second = gauge("images_per_second", "Images answered, mean of the last 10 s.", *version)
        self.images_per_second_per_core = gauge(
            "images_per_second_per_core", "Images answered per core allowed, mean of the last 10 s.", *version
        )
        self.predicted_capacity = gauge(
            "predicted_capacity_images_per_second", "What the passes measured at start come to.", *version
        )
        self.calibrated_pass_seconds = gauge(
            "calibrated_pass_seconds", "Wall time of a pass in one lane.", *version, "batch_size"
        )
        self.model_info = gauge("model_info", "Loaded models.", *INFO)
        self.log_lines_dropped = counter(
            "log_lines_dropped_total", "Log lines left out because standard error was read too slowly."
        )
        self.build_info = gauge("build_info", "Versions of the running service.", "version", "onnxruntime", "python")
        self.model_loads = counter(
            "model_loads_total", "Models loaded while serving, and those that could not be.", "model", "outcome"
        )
        self._models: dict[tuple[str, str], ModelMetrics] = {}  # by name and version
        self._requests: dict[tuple[str, int], tuple[list[float], list[float]]] = {}  # looked up once
        self._keys: dict[str, set[str]] = {}  # names by file

    def add_model(self, model: str, version: str, cores: float) -> "ModelMetrics":
        """A version's series, at zero when it is new, so that rate() and alerts work from the first scrape.

        `cores` are those allowed. A bundle that takes the place of one of the same version goes on with its series.
        """
        if (model, version) not in self._models:
            self._models[model, version] = ModelMetrics(self, model, version, cores)
        added = self._models[model, version]
        added.users += 1
        return added

    def remove_model(self, model: "ModelMetrics") -> None:
        """Remove a version's series, once all who added it have done so; whoever still counts does so unseen."""
        model.users -= 1
        if not model.users:
            del self._models[model.model, model.version]
            model.remove()

    def show_loaded(
        self,
        infos: list[dict[str, str]],
        curves: dict[tuple[str, str], dict[int, float]],
        capacities: dict[tuple[str, ...], float],
    ) -> None:
        """Show what is loaded, and nothing of what no longer is.

        `infos` are mixer_model_info's labels of each version of each model, `curves` the seconds of a pass by batch
        size, and `capacities` the images a second of all lanes, both by name and version.
        """
        _show(self.model_info, {tuple(info[label] for label in INFO): 1 for info in infos})
        _show(
            self.calibrated_pass_seconds,
            {(*of, str(size)): seconds for of, curve in curves.items() for size, seconds in curve.items()},
        )
        _show(self.predicted_capacity, capacities)

    def count_request(self, route: str, status: int, seconds: float, receive_seconds: float | None) -> None:
        """Count a request that is answered, and the time it took, of which its body took `receive_seconds`."""
        series = self._requests.get((route, status))
        if series is None:
            series = self.requests.labels(route, str(status)), self._request_duration.labels(route, str(status))
            self._requests[route, status] = series
        counted, durations = series
        counted[0] += 1
        Durations.add(durations, seconds)
        if receive_seconds is not None:
            Durations.add(self._receive, receive_seconds)

    def images_per_second_of_all(self) -> float:
        """Images answered by all models together, mean of the last 10 s."""
        return sum(model.rate.per_second() for model in self._models.values())

    def show_keys(self, file: str, names: set[str]) -> None:
        """Create the series of a file's API keys, at zero, and that of requests without one; remove those of others."""
        before = self._keys.get(file, set())
        self._keys[file] = names
        for key in names - before:
            for outcome in KEY_OUTCOMES:
                self.key_requests.labels(key, outcome)
        for key in before.difference(*self._keys.values()):
            for outcome in KEY_OUTCOMES:
                self.key_requests.remove(key, outcome)
        self.key_requests.labels("unknown", "unauthorized")


class ModelMetrics:
    """One version's series. Each is looked up once, since labels() takes as long as counting does."""

    def __init__(self, metrics: Metrics, model: str, version: str, cores: float) -> None:
        self.model, self.version = model, version
        self.users = 0  # see `Metrics.add_model`
        self.rate = Rate()
        self._removals: list[Callable[[], None]] = []

        def of_version(metric: _Labelled[_Series_co], *labels: str) -> _Series_co:
            self._removals.append(partial(metric.remove, model, version, *labels))
            return metric.labels(model, version, *labels)

        def stage_series(stage: str) -> list[float]:
            self._removals.append(partial(metrics.stage_duration.remove, stage, model, version))
            return metrics.stage_duration.labels(stage, model, version)

        self._queue_depth = of_version(metrics.queue_depth)
        self._admitted_images = of_version(metrics.admitted_images)
        self._images = {outcome: of_version(metrics.images, outcome) for outcome in OUTCOMES}
        self._rejections = {reason: of_version(metrics.rejections, reason) for reason in REJECTION_REASONS}
        self._passes = {reason: of_version(metrics.passes, reason) for reason in PASS_REASONS}
        self._stages = {stage: stage_series(stage) for stage in IMAGE_STAGES}
        self._batch_size = of_version(metrics.batch_size)
        self._core_seconds = of_version(metrics.engine_core_seconds)
        # Of the model: a version that could not be loaded has no series.
        self.loads = {outcome: metrics.model_loads.labels(model, outcome) for outcome in LOAD_OUTCOMES}
        of_version(metrics.images_per_second).set_function(self.rate.per_second)
        of_version(metrics.images_per_second_per_core).set_function(lambda: self.rate.per_second() / cores)

    def remove(self) -> None:
        """See `Metrics.remove_model`."""
        for removal in self._removals:
            removal()

    def observe_stages(self, stages: dict[str, float]) -> None:
        """Take in the seconds that one image spent in each."""
        for stage, seconds in stages.items():
            Durations.add(self._stages[stage], seconds)

    def add_waiting(self, images: int) -> None:
        """So many more wait for a lane, or fewer."""
        self._queue_depth[0] += images

    def count_admitted(self) -> None:
        """Count an image that is let in."""
        self._admitted_images[0] += 1

    def count_image(self, outcome: str) -> None:
        """Count how an image ended."""
        self._images[outcome][0] += 1
        if outcome == "ok":
            self.rate.add(1)

    def count_rejection(self, reason: str | None) -> None:
        """Count an image that was refused at the door, as its outcome and with the error's reason."""
        self.count_image("rejected")
        self.count_reason(reason)

    def count_reason(self, reason: str | None) -> None:
        """Count why an image was refused."""
        if reason in self._rejections:
            self._rejections[reason].inc()

    def count_pass(self, size: int, reason: str, core_seconds: float) -> None:
        """Count a pass over `size` images."""
        self._passes[reason].inc()
        self._batch_size.observe(size)
        self._core_seconds.inc(core_seconds)


class _Labelled(Protocol[_Series_co]):
    """A metric whose series have labels."""

    def labels(self, *labels: str) -> _Series_co:
        """The series of these."""

    def remove(self, *labels: str) -> None:
        """Show it no more."""


def _show(gauge: Gauge, values: dict[tuple[str, ...], float]) -> None:
    """Give a gauge these values by label values, and no others; a scrape meanwhile misses none that stays."""
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
    shown = {tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples}
    for labels in shown - values.keys():
        gauge.remove(*labels)
