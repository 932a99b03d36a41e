"""A made-up run, for what reads results."""

from benchmarks.load.result import Run


def make_run(*, p50: float | None = 10.0, p99: float | None = 20.0, **changes: object) -> Run:
    """Good and plain, but for the changes."""
    latency = {"p50": p50, "p90": p50, "p95": p50, "p99": p99, "p99_9": None, "max": p99}
    generator = {"lag_p50_ms": 0.1, "lag_p99_ms": 0.2, "lag_max_ms": 0.5, "cpu_share": 0.1, "sent_share": 1.0}
    run: dict[str, object] = {
        "scenario": "offline", "target": "mixer", "repeat": 0, "loop": "closed", "clients": 8, "images_per_query": 1,
        "seconds": 10.0, "images_per_second": 100.0, "good_images_per_second": 100.0, "objective_ms": 500.0,
        "queries": 1000, "missed": 0, "latency": latency, "refused_p99_ms": None, "codes": {"200": 1000},
        "generator": generator, "server": {},
    }  # fmt: skip
    return Run.model_validate(run | changes)
