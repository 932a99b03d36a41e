import time

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import IMAGE_STAGES, Metrics, Rate

# The contract: name -> labels.
CONTRACT = {
    "mixer_requests": {"route", "code"},
    "mixer_key_requests": {"key", "outcome"},
    "mixer_images": {"model", "version", "outcome"},
    "mixer_request_duration_seconds": {"route", "code"},
    "mixer_stage_duration_seconds": {"stage", "model", "version"},
    "mixer_batch_size": {"model", "version"},
    "mixer_passes": {"model", "version", "reason"},
    "mixer_queue_depth": {"model", "version"},
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
    "mixer_engine_core_seconds": {"model", "version"},
    "mixer_images_per_second": {"model", "version"},
    "mixer_images_per_second_per_core": {"model", "version"},
    "mixer_predicted_capacity_images_per_second": {"model", "version"},
    "mixer_admitted_images": {"model", "version"},
    "mixer_rejections": {"model", "version", "reason"},
    "mixer_live": set(),
    "mixer_calibrated_pass_seconds": {"model", "version", "batch_size"},
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
ECHO = ("echo", "1")
OF_ECHO = {"model": "echo", "version": "1"}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_every_metric_of_the_contract_is_exposed_with_its_labels() -> None:
    metrics = Metrics()
    metrics.add_model(*ECHO, cores=2)
    metrics.show_loaded([INFO], {ECHO: {1: 0.02, 4: 0.04}}, {ECHO: 200.0})
    metrics.show_keys("keys", {"mobile-app"})
    metrics.count_request("/v1/classify", 200, 0.003, 0.001)
    metrics.build_info.labels("1", "2", "3").set(1)
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    ours = {name: family for name, family in families.items() if name.startswith("mixer_")}
    assert {name: set().union(*(s.labels for s in f.samples)) - {"le"} for name, f in ours.items()} == CONTRACT
    assert all(family.documentation for family in ours.values())
    assert "process_cpu_seconds" in families


def test_a_scrape_may_ask_for_metrics_by_their_names() -> None:
    metrics = Metrics()
    metrics.add_model(*ECHO, cores=2)
    metrics.count_request("/v1/classify", 200, 0.003, 0.001)
    names = ["requests_total", "images_total", "admitted_images_total", "queue_depth", "request_duration_seconds_sum"]
    asked = metrics.registry.restricted_registry([f"mixer_{name}" for name in names])
    assert {sample.name.removeprefix("mixer_") for family in asked.collect() for sample in family.samples} == {*names}


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
    model = metrics.add_model(*ECHO, cores=0.5)
    for _ in range(40):
        model.count_image("ok")
    model.count_image("invalid")
    clock.now += 1
    assert metrics.registry.get_sample_value("mixer_images_per_second", OF_ECHO) == 4
    assert metrics.registry.get_sample_value("mixer_images_per_second_per_core", OF_ECHO) == 8


def test_what_is_no_longer_loaded_leaves_no_series_that_says_what_it_can_do() -> None:
    metrics = Metrics()

    def shown(name: str) -> list[dict[str, str]]:
        return [
            sample.labels for metric in metrics.registry.collect() for sample in metric.samples if sample.name == name
        ]

    second = INFO | {"version": "2"}
    curves = {("echo", "2"): {1: 0.02, 4: 0.04}, ECHO: {1: 0.02}, ("gone", "1"): {1: 1.0}}
    metrics.show_loaded([second, INFO, INFO | {"model": "gone"}], curves, {("echo", "2"): 100, ECHO: 1})
    assert len(shown("mixer_model_info")) == 3
    metrics.show_loaded([second], {("echo", "2"): {1: 0.02, 2: 0.025}}, {("echo", "2"): 80.0})
    assert shown("mixer_model_info") == [second]
    assert shown("mixer_predicted_capacity_images_per_second") == [{"model": "echo", "version": "2"}]
    assert shown("mixer_calibrated_pass_seconds") == [
        {"model": "echo", "version": "2", "batch_size": "1"},
        {"model": "echo", "version": "2", "batch_size": "2"},
    ]


def test_versions_of_a_model_are_told_apart(clock: Clock) -> None:
    metrics = Metrics()
    for version, infer in (("1", 0.002), ("2", 0.2)):
        model = metrics.add_model("echo", version, cores=1)
        model.count_image("ok")
        model.observe_stages({"infer": infer})
    clock.now += 1

    def of(version: str, name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"model": "echo", "version": version} | labels)

    assert [of(version, "mixer_images_per_second") for version in "12"] == [0.1, 0.1]
    infer = {"stage": "infer"}
    assert [of(version, "mixer_stage_duration_seconds_sum", **infer) for version in "12"] == [0.002, 0.2]
    assert metrics.images_per_second_of_all() == 0.2


def test_a_version_that_is_gone_leaves_no_series_and_none_comes_back(clock: Clock) -> None:
    metrics = Metrics()
    before = generate_latest(metrics.registry)
    model = metrics.add_model(*ECHO, cores=1)
    assert metrics.add_model(*ECHO, cores=1) is model  # its successor, of the same version
    metrics.remove_model(model)
    model.count_image("ok")
    assert metrics.registry.get_sample_value("mixer_images_total", OF_ECHO | {"outcome": "ok"}) == 1

    def count() -> None:
        model.count_admitted()
        model.add_waiting(1)
        model.count_rejection("deadline")
        model.count_image("ok")
        model.count_pass(4, "idle", 0.1)
        model.observe_stages(dict.fromkeys(IMAGE_STAGES, 0.1))

    count()
    metrics.remove_model(model)
    count()
    clock.now += 1
    left = [line for line in generate_latest(metrics.registry).decode().splitlines() if "echo" in line]
    assert all(line.startswith("mixer_model_loads_total") for line in left)
    assert metrics.images_per_second_of_all() == 0
    assert metrics.add_model(*ECHO, cores=1) is not model
    assert metrics.registry.get_sample_value("mixer_images_total", OF_ECHO | {"outcome": "ok"}) == 0
    assert before.count(b"\n# TYPE") == generate_latest(metrics.registry).count(b"\n# TYPE")


def test_a_requests_time_is_told_apart_by_status() -> None:
    metrics = Metrics()
    metrics.count_request("/v1/classify", 200, 0.3, None)
    metrics.count_request("/v1/classify", 429, 0.001, None)
    labels = {"route": "/v1/classify", "le": "0.0025"}
    up_to = [
        metrics.registry.get_sample_value("mixer_request_duration_seconds_bucket", labels | {"code": code})
        for code in ("200", "429")
    ]
    assert up_to == [0, 1]


def test_receiving_is_of_a_request_and_of_no_model() -> None:
    metrics = Metrics()
    metrics.count_request("/v1/classify", 200, 0.003, 0.001)
    assert metrics.registry.get_sample_value("mixer_stage_duration_seconds_count", {"stage": "receive"}) == 1


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
    model = metrics.add_model(*ECHO, cores=1)
    for seconds in (0.00005, 0.0001, 0.003, 99.0):
        model.observe_stages({"decode": seconds})
    decode = OF_ECHO | {"stage": "decode"}
    sample = metrics.registry.get_sample_value

    def up_to(edge: str) -> float | None:
        return sample("mixer_stage_duration_seconds_bucket", decode | {"le": edge})

    assert [up_to(edge) for edge in ("0.0001", "0.0025", "0.005", "10.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert sample("mixer_stage_duration_seconds_count", decode) == 4
    assert sample("mixer_stage_duration_seconds_sum", decode) == pytest.approx(99.00315)
