"""Every metric's name, help text and buckets, and nothing else names one (contract: prefix mixer_, base units)."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

# Roughly geometric from 0.1 ms to 10 s; round thresholds that objectives are written in are exact edges.
_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

OUTCOMES = ("ok", "invalid", "rejected", "expired", "cancelled", "error")
KEY_OUTCOMES = ("ok", "rate_limited")
STAGES = ("receive", "decode", "queue", "infer", "post")
REJECTION_REASONS = ("deadline", "inflight_images", "inflight_bytes", "event_loop", "no_lane")
PASS_REASONS = ("idle", "full", "delay", "deadline", "drain")
ENDED_REASONS = ("idle", "connections", "slow_upload", "inflight_bytes", "slow_reader", "shutdown")
LOAD_OUTCOMES = ("ok", "failed")
RESTART_REASONS = ("crash", "hang", "memory")
INFO = ("model", "version", "variant", "precision", "engine", "sha256")


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


class Durations:
    """A histogram of seconds that takes a microsecond to add to, where the client library's takes four.

    Added to on one thread; collected on any.
    """

    def __init__(self, name: str, text: str, label: str, registry: CollectorRegistry) -> None:
        self._name, self._text, self._label = name, text, label
        self._series: dict[str, list[float]] = {}  # by label: a count for each bucket, then the sum
        registry.register(self)

    def series(self, label: str) -> list[float]:
        """Those of one label, to be given to `add`."""
        return self._series.setdefault(label, [0.0] * (len(_SECONDS) + 2))

    @staticmethod
    def add(series: list[float], seconds: float) -> None:
        """Count one."""
        series[bisect_left(_SECONDS, seconds)] += 1
        series[-1] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """As the client library asks."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        edges = [*map(floatToGoString, _SECONDS), "+Inf"]
        for label, series in list(self._series.items()):
            *counts, total = series
            family.add_metric([label], list(zip(edges, accumulate(counts), strict=True)), total)
        yield family


class Metrics:
    """The service's metrics in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mixer_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"mixer_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"mixer_{name}", text, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests_total", "Requests answered; a gRPC call has HTTP's code.", "route", "code")
        self.key_requests = counter(
            "key_requests_total", "Requests by API key; ok: the key let them in.", "key", "outcome"
        )
        self.images = counter("images_total", "Images by how they ended; each ends exactly once.", "model", "outcome")
        self.rejections = counter(
            "rejections_total", "Images refused, at the door or once their body told more, by why.", "model", "reason"
        )
        self.admitted_images = counter("admitted_images_total", "Images let in.", "model")
        self._request_duration = Durations(
            "mixer_request_duration_seconds", "Time from request head to last byte handed over.", "route", registry
        )
        self._stage_duration = Durations(
            "mixer_stage_duration_seconds", "Time of one image in a stage (receive: of its request).", "stage", registry
        )
        self._stages = {stage: self._stage_duration.series(stage) for stage in STAGES}
        self.batch_size = histogram("batch_size", "Images in a pass.", _BATCH_SIZES, "model")
        self.passes = counter("passes_total", "Engine passes by why the batch was frozen.", "model", "reason")
        self.queue_depth = gauge("queue_depth", "Images waiting for a lane.", "model")
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
        self.engine_core_seconds = counter("engine_core_seconds_total", "Pass wall time times its threads.", "model")
        self.images_per_second = gauge("images_per_second", "Images answered, mean of the last 10 s.", "model")
        self.images_per_second_per_core = gauge(
            "images_per_second_per_core", "Images answered per core allowed, mean of the last 10 s.", "model"
        )
        self.predicted_capacity = gauge(
            "predicted_capacity_images_per_second", "What the passes measured at start come to.", "model"
        )
        self.calibrated_pass_seconds = gauge(
            "calibrated_pass_seconds",
            "Wall time of a pass of the latest version in one lane.",
            "model",
            "batch_size",
        )
        self.model_info = gauge("model_info", "Loaded models.", *INFO)
        self.log_lines_dropped = counter(
            "log_lines_dropped_total", "Log lines left out because standard error was read too slowly."
        )
        self.build_info = gauge("build_info", "Versions of the running service.", "version", "onnxruntime", "python")
        self.model_loads = counter(
            "model_loads_total", "Models loaded while serving, and those that could not be.", "model", "outcome"
        )
        self._models: dict[str, ModelMetrics] = {}
        self._requests: dict[tuple[str, int], tuple[Counter, list[float]]] = {}  # looked up once
        self._keys: dict[str, set[str]] = {}  # names by file

    def add_model(self, model: str, cores: float) -> "ModelMetrics":
        """A model's series, at zero when it is new, so that rate() and alerts work from the first scrape.

        `cores` are those allowed. The versions of a model share its series.
        """
        if model not in self._models:
            self._models[model] = ModelMetrics(self, model, cores)
        return self._models[model]

    def show_loaded(
        self, infos: list[dict[str, str]], curves: dict[str, dict[int, float]], capacities: dict[str, float]
    ) -> None:
        """Show what is loaded, and nothing of what no longer is.

        `infos` are mixer_model_info's labels of each version of each model, `curves` the seconds of a pass of each
        model's latest, by batch size, and `capacities` the images a second of all its lanes.
        """
        _show(self.model_info, {tuple(info[label] for label in INFO): 1 for info in infos})
        _show(
            self.calibrated_pass_seconds,
            {(model, str(size)): seconds for model, curve in curves.items() for size, seconds in curve.items()},
        )
        _show(self.predicted_capacity, {(model,): capacity for model, capacity in capacities.items()})

    def count_request(self, route: str, status: int, seconds: float, receive_seconds: float | None) -> None:
        """Count a request that is answered, and the time it took, of which its body took `receive_seconds`."""
        series = self._requests.get((route, status))
        if series is None:
            series = self.requests.labels(route, status), self._request_duration.series(route)
            self._requests[route, status] = series
        counted, durations = series
        counted.inc()
        Durations.add(durations, seconds)
        if receive_seconds is not None:
            Durations.add(self._stages["receive"], receive_seconds)

    def observe_stages(self, stages: dict[str, float]) -> None:
        """Take in the seconds that one image spent in each."""
        for stage, seconds in stages.items():
            Durations.add(self._stages[stage], seconds)

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
    """One model's series. Each is looked up once, since labels() takes as long as counting does."""

    def __init__(self, metrics: Metrics, model: str, cores: float) -> None:
        self.model = model
        self.rate = Rate()
        self.queue_depth = metrics.queue_depth.labels(model)
        self.admitted_images = metrics.admitted_images.labels(model)
        self._images = {outcome: metrics.images.labels(model, outcome) for outcome in OUTCOMES}
        self._rejections = {reason: metrics.rejections.labels(model, reason) for reason in REJECTION_REASONS}
        self._passes = {reason: metrics.passes.labels(model, reason) for reason in PASS_REASONS}
        self.observe_stages = metrics.observe_stages
        self._batch_size = metrics.batch_size.labels(model)
        self._core_seconds = metrics.engine_core_seconds.labels(model)
        self.loads = {outcome: metrics.model_loads.labels(model, outcome) for outcome in LOAD_OUTCOMES}
        metrics.images_per_second.labels(model).set_function(self.rate.per_second)
        metrics.images_per_second_per_core.labels(model).set_function(lambda: self.rate.per_second() / cores)

    def count_image(self, outcome: str) -> None:
        """Count how an image ended."""
        self._images[outcome].inc()
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


def _show(gauge: Gauge, values: dict[tuple[str, ...], float]) -> None:
    """Give a gauge these values by label values, and no others; a scrape meanwhile misses none that stays."""
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
    shown = {tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples}
    for labels in shown - values.keys():
        gauge.remove(*labels)
