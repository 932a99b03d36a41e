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
STAGES = ("receive", "decode", "queue", "infer", "post")
PASS_REASONS = ("idle", "full", "delay", "deadline", "drain")


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
        self.images = counter("images_total", "Images by how they ended; each ends exactly once.", "model", "outcome")
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
        self.draining = gauge("draining", "1 from SIGTERM on.")
        self.drain_lost_images = counter("drain_lost_images_total", "Accepted images left unanswered by a shutdown.")
        self.cores = gauge("cores", "Cores allowed by affinity and CPU quota.")
        self.engine_threads = gauge("engine_threads", "Threads of an engine pass.")
        self.decode_threads = gauge("decode_threads", "Threads of the decode pool.")
        self.engine_core_seconds = counter("engine_core_seconds_total", "Pass wall time times engine threads.", "model")
        self.images_per_second = gauge("images_per_second", "Images answered, mean of the last 10 s.", "model")
        self.images_per_second_per_core = gauge(
            "images_per_second_per_core", "Images answered per core allowed, mean of the last 10 s.", "model"
        )
        self.predicted_capacity = gauge(
            "predicted_capacity_images_per_second", "Engine capacity from the start-up pass times.", "model"
        )
        self.calibrated_pass_seconds = gauge(
            "calibrated_pass_seconds", "Wall time of a pass, measured at start.", "model", "batch_size"
        )
        self.model_info = gauge(
            "model_info", "Loaded models.", "model", "version", "variant", "precision", "engine", "sha256"
        )
        self.build_info = gauge("build_info", "Versions of the running service.", "version", "onnxruntime", "python")
        self._rates: dict[str, Rate] = {}

    def add_model(self, model: str, cores: float, curve: dict[int, float], **info: str) -> None:
        """Create a model's series, at zero, so that rate() and alerts work from the first scrape.

        `cores` are those allowed, `curve` the seconds of a pass by batch size, `info` mixer_model_info's labels.
        """
        for outcome in OUTCOMES:
            self.images.labels(model, outcome)
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
        self.predicted_capacity.labels(model).set(max(size / seconds for size, seconds in curve.items()))
        for size, seconds in curve.items():
            self.calibrated_pass_seconds.labels(model, size).set(seconds)
        self.model_info.labels(model=model, **info).set(1)

    def images_per_second_of_all(self) -> float:
        """Images answered by all models together, mean of the last 10 s."""
        return sum(rate.per_second() for rate in self._rates.values())

    def count_image(self, model: str, outcome: str) -> None:
        """Count how an image ended."""
        self.images.labels(model, outcome).inc()
        if outcome == "ok":
            self._rates[model].add(1)
