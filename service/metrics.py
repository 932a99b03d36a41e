"""Every metric's name, help text and buckets, and nothing else names one (contract: prefix mixer_, base units)."""

import time
from collections import deque

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# Roughly geometric from 0.1 ms to 10 s; round thresholds that objectives are written in are exact edges.
_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

OUTCOMES = ("ok", "invalid", "rejected", "expired", "cancelled", "error")
KEY_OUTCOMES = ("ok", "rate_limited")
STAGES = ("receive", "decode", "queue", "infer", "post")
REJECTION_REASONS = ("deadline", "inflight_images", "inflight_bytes", "event_loop", "scheduler_stopped")
PASS_REASONS = ("idle", "full", "delay", "deadline", "drain")
ENDED_REASONS = ("idle", "connections", "slow_upload", "inflight_bytes", "slow_reader", "shutdown")
LOAD_OUTCOMES = ("ok", "failed")
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

        self.requests = counter("requests_total", "HTTP requests answered.", "route", "code")
        self.key_requests = counter(
            "key_requests_total", "Requests by API key; ok: the key let them in.", "key", "outcome"
        )
        self.images = counter("images_total", "Images by how they ended; each ends exactly once.", "model", "outcome")
        self.rejections = counter("rejections_total", "Images refused at the door, by why.", "model", "reason")
        self.admitted_images = counter("admitted_images_total", "Images let in.", "model")
        self.request_duration = histogram(
            "request_duration_seconds", "Time from request head to last byte handed over.", _SECONDS, "route"
        )
        self.stage_duration = histogram(
            "stage_duration_seconds", "Time of one image in a stage (receive: of its request).", _SECONDS, "stage"
        )
        self.batch_size = histogram("batch_size", "Images in a pass.", _BATCH_SIZES, "model")
        self.passes = counter("passes_total", "Engine passes by why the batch was frozen.", "model", "reason")
        self.queue_depth = gauge("queue_depth", "Images waiting for a pass.", "model")
        self.inflight_images = gauge("inflight_images", "Images accepted and not yet answered.")
        self.ready = gauge("ready", "1 while the service is ready for traffic.")
        self.live = gauge("live", "0 once a scheduler has stopped, or while a pass hangs.")
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
        self.engine_threads = gauge("engine_threads", "Threads of an engine pass.")
        self.decode_threads = gauge("decode_threads", "Threads of the decode pool.")
        self.event_loop_cpu_seconds = counter(
            "event_loop_cpu_seconds_total", "CPU time of the event loop, which is one thread: at 1 a second it is full."
        )
        self.engine_core_seconds = counter("engine_core_seconds_total", "Pass wall time times engine threads.", "model")
        self.images_per_second = gauge("images_per_second", "Images answered, mean of the last 10 s.", "model")
        self.images_per_second_per_core = gauge(
            "images_per_second_per_core", "Images answered per core allowed, mean of the last 10 s.", "model"
        )
        self.predicted_capacity = gauge(
            "predicted_capacity_images_per_second", "Engine capacity from the calibrated pass times.", "model"
        )
        self.calibrated_pass_seconds = gauge(
            "calibrated_pass_seconds",
            "Wall time of a pass of the latest version.",
            "model",
            "batch_size",
        )
        self.model_info = gauge("model_info", "Loaded models.", *INFO)
        self.build_info = gauge("build_info", "Versions of the running service.", "version", "onnxruntime", "python")
        self.model_loads = counter(
            "model_loads_total", "Models loaded while serving, and those that could not be.", "model", "outcome"
        )
        self._rates: dict[str, Rate] = {}

    def add_model(self, model: str, cores: float) -> None:
        """Create a model's series, at zero, so that rate() and alerts work from the first scrape.

        `cores` are those allowed. The versions of a model share its series.
        """
        if model in self._rates:
            return
        for outcome in OUTCOMES:
            self.images.labels(model, outcome)
        for reason in REJECTION_REASONS:
            self.rejections.labels(model, reason)
        self.admitted_images.labels(model)
        for reason in PASS_REASONS:
            self.passes.labels(model, reason)
        for stage in STAGES:
            self.stage_duration.labels(stage)
        self.batch_size.labels(model)
        self.queue_depth.labels(model)
        self.engine_core_seconds.labels(model)
        rate = self._rates[model] = Rate()
        self.images_per_second.labels(model).set_function(rate.per_second)
        self.images_per_second_per_core.labels(model).set_function(lambda: rate.per_second() / cores)
        for outcome in LOAD_OUTCOMES:
            self.model_loads.labels(model, outcome)

    def show_loaded(self, infos: list[dict[str, str]], curves: dict[str, dict[int, float]]) -> None:
        """Show what is loaded, and nothing of what no longer is.

        `infos` are mixer_model_info's labels of each version of each model, `curves` the seconds of a pass of each
        model's latest, by batch size.
        """
        _show(self.model_info, {tuple(info[label] for label in INFO): 1 for info in infos})
        _show(
            self.calibrated_pass_seconds,
            {(model, str(size)): seconds for model, curve in curves.items() for size, seconds in curve.items()},
        )
        _show(
            self.predicted_capacity,
            {(model,): max(size / seconds for size, seconds in curve.items()) for model, curve in curves.items()},
        )

    def images_per_second_of_all(self) -> float:
        """Images answered by all models together, mean of the last 10 s."""
        return sum(rate.per_second() for rate in self._rates.values())

    def add_key(self, key: str) -> None:
        """Create an API key's series, at zero, and that of requests without one."""
        for outcome in KEY_OUTCOMES:
            self.key_requests.labels(key, outcome)
        self.key_requests.labels("unknown", "unauthorized")

    def count_rejection(self, model: str, reason: str | None) -> None:
        """Count an image that was refused at the door, as its outcome and with the error's reason."""
        self.count_image(model, "rejected")
        self.rejections.labels(model, reason).inc()

    def count_image(self, model: str, outcome: str) -> None:
        """Count how an image ended."""
        self.images.labels(model, outcome).inc()
        if outcome == "ok":
            self._rates[model].add(1)


def _show(gauge: Gauge, values: dict[tuple[str, ...], float]) -> None:
    """Give a gauge these values by label values, and no others; a scrape meanwhile misses none that stays."""
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
    shown = {tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples}
    for labels in shown - values.keys():
        gauge.remove(*labels)
