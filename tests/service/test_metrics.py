import time

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics, Rate

# The contract: name -> labels.
CONTRACT = {
    "mixer_requests": {"route", "code"},
    "mixer_key_requests": {"key", "outcome"},
    "mixer_images": {"model", "outcome"},
    "mixer_request_duration_seconds": {"route"},
    "mixer_stage_duration_seconds": {"stage"},
    "mixer_batch_size": {"model"},
    "mixer_passes": {"model", "reason"},
    "mixer_queue_depth": {"model"},
    "mixer_inflight_images": set(),
    "mixer_ready": set(),
    "mixer_draining": set(),
    "mixer_drain_lost_images": set(),
    "mixer_connections": set(),
    "mixer_connections_ended": {"reason"},
    "mixer_cores": set(),
    "mixer_lanes": set(),
    "mixer_lanes_ready": set(),
    "mixer_lane_threads": set(),
    "mixer_lane_restarts": {"reason"},
    "mixer_front_cpu_seconds": set(),
    "mixer_engine_core_seconds": {"model"},
    "mixer_images_per_second": {"model"},
    "mixer_images_per_second_per_core": {"model"},
    "mixer_predicted_capacity_images_per_second": {"model"},
    "mixer_admitted_images": {"model"},
    "mixer_rejections": {"model", "reason"},
    "mixer_live": set(),
    "mixer_calibrated_pass_seconds": {"model", "batch_size"},
    "mixer_model_loads": {"model", "outcome"},
    "mixer_model_info": {"model", "version", "variant", "precision", "engine", "sha256"},
    "mixer_log_lines_dropped": set(),
    "mixer_build_info": {"version", "onnxruntime", "python"},
}

INFO = {
    "model": "echo",
    "version": "1",
    "variant": "S/32",
    "precision": "fp32",
    "engine": "CPUExecutionProvider",
    "sha256": "0",
}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_every_metric_of_the_contract_is_exposed_with_its_labels() -> None:
    metrics = Metrics()
    metrics.add_model("echo", cores=2)
    metrics.show_loaded([INFO], {"echo": {1: 0.02, 4: 0.04}}, {"echo": 200.0})
    metrics.show_keys("keys", {"mobile-app"})
    metrics.count_request("/v1/classify", 200, 0.003, 0.001)
    metrics.build_info.labels("1", "2", "3").set(1)
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    ours = {name: family for name, family in families.items() if name.startswith("mixer_")}
    assert {name: set().union(*(s.labels for s in f.samples)) - {"le"} for name, f in ours.items()} == CONTRACT
    assert all(family.documentation for family in ours.values())
    assert "process_cpu_seconds" in families


def test_rate_is_the_mean_of_the_last_ten_whole_seconds(clock: Clock) -> None:
    rate = Rate()
    for _ in range(10):
        rate.add(30)
        rate.add(20)
        clock.now += 1
    assert rate.per_second() == 50
    clock.now += 5
    assert rate.per_second() == 25
    clock.now += 5
    assert rate.per_second() == 0


def test_the_running_second_does_not_count_yet(clock: Clock) -> None:
    rate = Rate()
    rate.add(10)
    assert rate.per_second() == 0
    clock.now += 1
    assert rate.per_second() == 1


def test_per_core_divides_by_the_cores_allowed(clock: Clock) -> None:
    metrics = Metrics()
    model = metrics.add_model("echo", cores=0.5)
    for _ in range(40):
        model.count_image("ok")
    model.count_image("invalid")
    clock.now += 1
    assert metrics.registry.get_sample_value("mixer_images_per_second", {"model": "echo"}) == 4
    assert metrics.registry.get_sample_value("mixer_images_per_second_per_core", {"model": "echo"}) == 8


def test_what_is_no_longer_loaded_leaves_no_series_that_says_what_it_can_do() -> None:
    metrics = Metrics()

    def shown(name: str) -> list[dict[str, str]]:
        return [
            sample.labels for metric in metrics.registry.collect() for sample in metric.samples if sample.name == name
        ]

    second = INFO | {"version": "2"}
    curves = {"echo": {1: 0.02, 4: 0.04}, "gone": {1: 1}}
    metrics.show_loaded([second, INFO, INFO | {"model": "gone"}], curves, {"echo": 100, "gone": 1})
    assert len(shown("mixer_model_info")) == 3
    metrics.show_loaded([second], {"echo": {1: 0.02, 2: 0.025}}, {"echo": 80.0})
    assert shown("mixer_model_info") == [second]
    assert shown("mixer_predicted_capacity_images_per_second") == [{"model": "echo"}]
    assert shown("mixer_calibrated_pass_seconds") == [
        {"model": "echo", "batch_size": "1"},
        {"model": "echo", "batch_size": "2"},
    ]


def test_a_second_version_of_a_model_goes_on_with_its_series(clock: Clock) -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.add_model("echo", cores=1).count_image("ok")
    clock.now += 1
    assert metrics.registry.get_sample_value("mixer_images_per_second", {"model": "echo"}) == 0.2


def test_a_key_that_no_file_has_any_more_leaves_no_series() -> None:
    metrics = Metrics()

    def shown() -> set[str]:
        samples = (sample for metric in metrics.registry.collect() for sample in metric.samples)
        return {sample.labels["key"] for sample in samples if sample.name == "mixer_key_requests_total"}

    metrics.show_keys("keys", {"a", "b", "both"})
    metrics.show_keys("admin keys", {"both"})
    metrics.key_requests.labels("a", "ok").inc()
    metrics.show_keys("keys", {"a", "c"})
    assert shown() == {"a", "c", "both", "unknown"}
    assert metrics.registry.get_sample_value("mixer_key_requests_total", {"key": "a", "outcome": "ok"}) == 1
    metrics.show_keys("admin keys", {"c"})
    assert shown() == {"a", "c", "unknown"}


def test_durations_are_a_histogram_like_the_client_librarys() -> None:
    metrics = Metrics()
    for seconds in (0.00005, 0.0001, 0.003, 99.0):
        metrics.observe_stages({"decode": seconds})
    sample = metrics.registry.get_sample_value

    def up_to(edge: str) -> float | None:
        return sample("mixer_stage_duration_seconds_bucket", {"stage": "decode", "le": edge})

    assert [up_to(edge) for edge in ("0.0001", "0.0025", "0.005", "10.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert sample("mixer_stage_duration_seconds_count", {"stage": "decode"}) == 4
    assert sample("mixer_stage_duration_seconds_sum", {"stage": "decode"}) == pytest.approx(99.00315)
