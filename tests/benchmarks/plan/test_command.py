"""`python -m benchmarks plan`: the component as kustomize renders it over deploy/kubernetes, alerts, and refusals."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from benchmarks.__main__ import main
from benchmarks.load.result import LoadResult
from benchmarks.plan.forecast import Simulation, compare
from benchmarks.plan.measured import read_measured
from service.metrics import Metrics
from tests.benchmarks.plan.results import SWEEP, made_result, made_run
from tests.deploy.kustomization import KUBERNETES, Rendered, check_fields, compose, render
from tests.e2e.processes import ROOT

RESULT = made_result(*SWEEP)
OVERLAYS = {
    "none": ("cpu",),
    "hpa": ("cpu", "hpa"),
    "keda": ("cpu", "keda", "prometheus-operator"),
}


class Planner:
    """Runs the command; 1,000 img/s unless the flags say otherwise."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.component = folder / "plan"
        self._result = folder / "load.json"
        self._monkeypatch = monkeypatch

    def __call__(self, *flags: str, result: LoadResult | str | None = RESULT) -> str:
        """The document; of a file with that text, or of one that is not there."""
        if result is not None:
            self._result.write_text(result if isinstance(result, str) else result.model_dump_json())
        command = ["plan", str(self._result), "--rate", "1000", "--out", str(self.component.parent), *flags]
        self._monkeypatch.setattr("sys.argv", ["benchmarks", *command])
        main()
        return (self.component / "README.md").read_text()


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    return Planner(tmp_path, monkeypatch)


def with_plan(tmp_path: Path, *parts: str, component: Path | None = None) -> Path:
    """An overlay of these parts, then the plan."""
    overlay = compose(tmp_path / "overlay", *parts)
    file = overlay / "kustomization.yaml"
    content = yaml.safe_load(file.read_text())
    content["components"].append(os.path.relpath((component or tmp_path / "plan").resolve(), overlay.resolve()))
    file.write_text(yaml.safe_dump(content))
    return overlay


def rendered(tmp_path: Path, *parts: str, component: Path | None = None) -> Rendered:
    everything = render(with_plan(tmp_path, *parts, component=component))
    for manifest in everything.manifests:
        if manifest["kind"] not in ("ScaledObject", "ServiceMonitor", "PrometheusRule"):
            for version in ("1.31", "1.37"):
                check_fields(manifest, version)
    return everything


def test_a_fixed_number_of_pods(plan: Planner, tmp_path: Path) -> None:
    """300 img/s a pod at 30 % headroom are 210: five pods for 1,000, and one spare."""
    plan()
    deployment = rendered(tmp_path, "cpu").one("Deployment")
    assert deployment["spec"]["replicas"] == 6
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"]["cpu"] == "2"
    # 1.25 x 400 MiB, 256 MiB of bodies, in the one lane 16 bytes each of 50,000,000 pixels; rounded up to 128 MiB
    assert container["resources"]["limits"]["memory"] == "1536Mi"
    assert container["resources"]["limits"]["ephemeral-storage"] == "128Mi"


def test_the_hpa_aims_at_the_cpu_time_of_the_planned_load(plan: Planner, tmp_path: Path) -> None:
    """Six pods that share 1,000 img/s have 167 each: two thirds of a core, of 2, at 4 ms an image."""
    plan("--autoscaler", "hpa")
    everything = rendered(tmp_path, "cpu", "hpa")
    scaler = everything.one("HorizontalPodAutoscaler")["spec"]
    (metric,) = scaler["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 33}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 9)
    assert scaler["behavior"]
    assert "replicas" not in everything.one("Deployment")["spec"]


def test_keda_aims_at_the_share_of_what_a_replica_predicts(plan: Planner, tmp_path: Path) -> None:
    """167 img/s of the 400 that passes of 4 images in 10 ms promise; its query is in replicas' worth of that."""
    plan("--autoscaler", "keda", "--prometheus-operator", "--spare", "1")
    scaler = rendered(tmp_path, *OVERLAYS["keda"]).one("ScaledObject")["spec"]
    (trigger,) = scaler["triggers"]
    assert "mixer_predicted_capacity_images_per_second" in trigger["metadata"]["query"]
    assert float(trigger["metadata"]["threshold"]) == pytest.approx(1000 / 6 / 400, abs=0.001)
    assert (scaler["minReplicaCount"], scaler["maxReplicaCount"], scaler["fallback"]["replicas"]) == (2, 9, 6)
    assert scaler["fallback"]["failureThreshold"] == 3


@pytest.mark.parametrize("autoscaler", OVERLAYS)
def test_some_pod_serves_through_an_eviction_however_small_the_demand(
    autoscaler: str, plan: Planner, tmp_path: Path
) -> None:
    plan("--rate", "1", "--spare", "0", "--autoscaler", autoscaler)
    everything = rendered(tmp_path, *OVERLAYS[autoscaler])
    scalers = everything.all("HorizontalPodAutoscaler") + everything.all("ScaledObject")
    fewest = [scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount")) for scaler in scalers]
    (replicas,) = fewest or [everything.one("Deployment")["spec"]["replicas"]]
    assert replicas > everything.one("PodDisruptionBudget")["spec"]["maxUnavailable"]


def test_the_published_plan_is_one_that_kustomize_takes(tmp_path: Path) -> None:
    published = ROOT / "benchmarks" / "results" / "plan"
    everything = rendered(tmp_path, "cpu", "hpa", component=published)
    pods = re.search(r"\| pods \| ([\d,]+):", (published / "README.md").read_text())
    assert pods
    autoscaler = everything.one("HorizontalPodAutoscaler")["spec"]
    assert autoscaler["minReplicas"] <= int(pods[1].replace(",", "")) <= autoscaler["maxReplicas"]


@pytest.mark.parametrize(("autoscaler", "overlay"), [("hpa", ("cpu",)), ("keda", ("cpu",)), ("none", ("cpu", "hpa"))])
def test_the_wrong_autoscaler_is_an_error_of_kustomize(
    autoscaler: str, overlay: tuple[str, ...], plan: Planner, tmp_path: Path
) -> None:
    plan("--autoscaler", autoscaler)
    with pytest.raises(AssertionError, match=r"HorizontalPodAutoscaler|ScaledObject|/spec/replicas"):
        render(with_plan(tmp_path, *overlay))


def test_the_overlay_in_the_docs_takes_the_plan(plan: Planner, tmp_path: Path) -> None:
    plan("--autoscaler", "hpa")
    (overlay,) = re.findall(
        r"```yaml\n(.*?)```", (KUBERNETES.parent.parent / "docs" / "sizing.md").read_text(), re.DOTALL
    )
    overlay = overlay.replace("../deploy/kubernetes", os.path.relpath(KUBERNETES, tmp_path.resolve()))
    (tmp_path / "kustomization.yaml").write_text(overlay)
    assert render(tmp_path).one("HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 9


# Alerts

BUSY = """\
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'mixer_images_total{{job="mixer", instance="a", model="digits", version="1", outcome="ok"}}',
         values: '0+{ok}x30'}}
      - {{series: 'mixer_images_total{{job="mixer", instance="b", model="digits", version="1", outcome="rejected"}}',
         values: '0+{rejected}x30'}}
      - {{series: 'mixer_ready{{job="mixer", instance="a"}}', values: '1x30'}}
      - {{series: 'mixer_ready{{job="mixer", instance="b"}}', values: '1x30'}}
      - {{series: 'mixer_ready{{job="mixer", instance="c"}}', values: '0x30'}}
      - {{series: 'mixer_request_duration_seconds_bucket{{job="mixer", route="/v1/classify", code="200", le="0.1"}}',
         values: '0+98x30'}}
      - {{series:
         'mixer_request_duration_seconds_bucket{{job="mixer", route="/v1/classify", code="200", le="{slowest}"}}',
         values: '0+100x30'}}
      - {{series: 'mixer_request_duration_seconds_bucket{{job="mixer", route="/v1/classify", code="200", le="+Inf"}}',
         values: '0+100x30'}}
      - {{series: 'mixer_request_duration_seconds_bucket{{job="mixer", route="/v1/classify", code="429", le="0.1"}}',
         values: '0+10000x30'}}
      - {{series: 'mixer_request_duration_seconds_bucket{{job="mixer", route="/v1/classify", code="429", le="+Inf"}}',
         values: '0+10000x30'}}
    promql_expr_test:
      - expr: count by (alertname) (ALERTS{{alertstate="firing"}})
        eval_time: 25m
        exp_samples: {firing}
"""


@pytest.mark.parametrize(
    ("ok", "rejected", "slowest", "firing"),
    [  # images a second: 1,000 in all, 210 a pod and 300 of one are planned, and 200 ms
        (200, 200, 0.15, []),
        (290, 290, 0.15, ["MixerPodsAbovePlan"]),
        (310, 10, 0.15, ["MixerPodAboveCapacity"]),
        (200, 200, 2.5, ["MixerSlowerThanPlanned"]),
        (600, 600, 0.15, ["MixerDemandAbovePlan", "MixerPodAboveCapacity", "MixerPodsAbovePlan"]),
    ],
)
def test_alerts_fire_when_reality_leaves_the_plan(
    ok: int, rejected: int, slowest: float, firing: list[str], plan: Planner, promtool: str
) -> None:
    plan()
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing]
    test = plan.component / "test.yml"
    test.write_text(BUSY.format(ok=60 * ok, rejected=60 * rejected, slowest=slowest, firing=samples))
    result = subprocess.run([promtool, "test", "rules", str(test)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_operators_rule_is_the_file_of_rules(plan: Planner, tmp_path: Path) -> None:
    plan("--autoscaler", "keda", "--prometheus-operator")
    brought = rendered(tmp_path, *OVERLAYS["keda"]).named("PrometheusRule", "mixer-plan")
    assert brought["spec"] == yaml.safe_load((plan.component / "alerts.yml").read_text())


def test_metrics_that_alerts_ask_for_exist(plan: Planner) -> None:
    plan()
    metrics = Metrics()
    metrics.add_model("digits", "1", 2)
    known = set(re.findall(r"# TYPE (\w+)", generate_latest(metrics.registry).decode()))
    wanted = set(re.findall(r"mixer_\w+", (plan.component / "alerts.yml").read_text()))
    assert {name.removesuffix("_bucket") for name in wanted} <= known


# The document


def test_it_says_what_it_costs_and_where_it_comes_from(plan: Planner) -> None:
    document = plan("--core-price", "0.04")
    assert "6: 5 for the peak, and 1 spare" in document
    assert "0.48 an hour, 350 a month; 0.133 a million images" in document  # 6 pods of 2 cores
    assert "`python -m benchmarks load sweep`" in document


def test_a_simulation_that_agrees_is_shown_for_thousands_of_pods(plan: Planner) -> None:
    alike = compare(Simulation(read_measured(RESULT)), read_measured(RESULT))
    runs = [made_run(one.step.rate, p50=one.p50_ms, p99=one.p99_ms) for one in alike[:3]]
    document = plan("--rate", "1000000", result=made_result(*runs, SWEEP[-1]))
    assert "4,763: 4,762 for the peak" in document
    assert "both agree" in document
    assert "simulated p99 ms" in document
    assert "| 5,000 | 10 a pod |" in document


def test_a_simulation_that_is_off_is_not(plan: Planner) -> None:
    document = plan()
    assert "not to be trusted" in document
    assert "simulated p99 ms" not in document


def test_it_says_what_was_left_out_and_what_is_a_guess(plan: Planner) -> None:
    assert "Left out as invalid: sweep at 100.0 img/s: late" in plan(
        result=made_result(made_run(100, invalid=["late"]), made_run(200))
    )
    assert "is a guess" in plan(result=made_result(made_run(200, scenario="offline")))


# Refusals


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--rate", "0"), "--rate 0: has to be more than 0"),
        (("--p99-ms", "3"), "one pass over one image takes 4 ms already"),
        (("--rate", "1e12"), "a cluster holds 150,000"),
        (("--target", "other"), "no runs of 'other', but of mixer"),
    ],
)
def test_there_is_one_line_where_there_is_no_plan(flags: tuple[str, ...], why: str, plan: Planner) -> None:
    with pytest.raises(SystemExit) as exit:
        plan(*flags)
    message = str(exit.value.code)
    assert message.startswith("mixer-bench plan: ")
    assert why in message
    assert "\n" not in message
    assert not plan.component.exists()


@pytest.mark.parametrize("content", [None, "{}", "not JSON"])
def test_files_that_are_no_results_are_refused(content: str | None, plan: Planner) -> None:
    with pytest.raises(SystemExit, match=r"mixer-bench plan: .*/load.json: "):
        plan(result=content)
