"""deploy/kubernetes, rendered in every combination, against Kubernetes' schemas, the service and its metrics."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from service.lanes.shape import COPIES, FRONT_BYTES, LANE_BYTES, choose_shape
from service.settings import Settings
from tests.deploy.kustomization import COMBINATIONS, KUBERNETES, Manifest, Rendered, check_fields, compose, render
from tests.e2e.processes import ServiceProcess, running_service

ROOT = KUBERNETES.parent.parent
CRD_GROUPS = ("gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com", "serving.kserve.io")
# Seconds in which the service takes the first request of connections that are open when its door closes.
NEWCOMERS = 1


@pytest.fixture(params=COMBINATIONS, ids="+".join, scope="module")
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return render(compose(tmp_path_factory.mktemp("overlay"), *request.param))


@pytest.fixture(scope="module")
def kserve() -> Rendered:
    return render(KUBERNETES / "kserve")


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service() as service:
        yield service


@pytest.fixture(autouse=True)
def environment_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MIXER_"):
            monkeypatch.delenv(name)


def is_custom(manifest: Manifest) -> bool:
    return str(manifest["apiVersion"]).split("/")[0] in CRD_GROUPS


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def memory(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def as_settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service makes of it. The others are OpenTelemetry's."""
    others = {name for name in environment if name.removeprefix("MIXER_").lower() not in Settings.model_fields}
    assert all(name.startswith("OTEL_") for name in others)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


# Fields and values


def test_kubernetes_knows_every_field(rendered: Rendered) -> None:
    needs_image_volumes = any("image" in volume for volume in rendered.pod.get("volumes", []))
    for version in ("1.34" if needs_image_volumes else "1.31", "1.37"):
        for manifest in rendered.manifests:
            if not is_custom(manifest):
                check_fields(manifest, version)


def test_the_example_namespace_is_the_overlays_own_and_restricted(rendered: Rendered) -> None:
    namespace = yaml.safe_load((KUBERNETES / "namespace.yaml").read_text())
    check_fields(namespace, "1.37")
    assert {manifest["metadata"]["namespace"] for manifest in rendered.manifests} == {namespace["metadata"]["name"]}
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", [("cpu", "keda", "prometheus-operator", "httproute"), "kserve"], ids=str)
def test_operators_know_every_field(overlay: tuple[str, ...] | str, tmp_path: Path) -> None:
    """Against schemas of the custom resources, which no package carries; the pattern of one is not Python's."""
    import jsonschema  # noqa: PLC0415 - takes two seconds, where tests are collected too

    catalog = os.environ.get("CRDS_CATALOG")
    if not catalog:
        pytest.skip("CRDS_CATALOG does not name a clone of github.com/datreeio/CRDs-catalog")
    rendered = render(KUBERNETES / overlay if isinstance(overlay, str) else compose(tmp_path, *overlay))
    custom = [manifest for manifest in rendered.manifests if is_custom(manifest)]
    assert custom
    for manifest in custom:
        group, version = manifest["apiVersion"].split("/")
        schema = json.loads((Path(catalog) / group / f"{manifest['kind'].lower()}_{version}.json").read_text())
        jsonschema.Draft7Validator(schema).validate(manifest)


def test_kubernetes_knows_every_field_that_operators_hand_on(kserve: Rendered, tmp_path: Path) -> None:
    """KServe makes pods of containers and predictor, KEDA an autoscaler of the behaviour: most of what is set there."""
    runtime, predictor = kserve.one("ServingRuntime"), kserve.one("InferenceService")["spec"]["predictor"]
    scaled = render(compose(tmp_path, "cpu", "keda")).one("ScaledObject")
    own = {"model", "deploymentStrategy", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    pod = {name: value for name, value in predictor.items() if name not in own}
    deployment = {
        "selector": {},
        "strategy": predictor["deploymentStrategy"],
        "template": {"spec": pod | {"containers": runtime["spec"]["containers"]}},
    }
    scaler = {
        "scaleTargetRef": {"kind": "Deployment"} | scaled["spec"]["scaleTargetRef"],
        "maxReplicas": scaled["spec"]["maxReplicaCount"],
        **scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"],
    }
    for version in ("1.31", "1.37"):
        for kind, api, spec in (
            ("Deployment", "apps/v1", deployment),
            ("HorizontalPodAutoscaler", "autoscaling/v2", scaler),
        ):
            manifest = {"apiVersion": api, "kind": kind, "metadata": {"name": "mixer"}, "spec": spec}
            check_fields(manifest, version)


def test_every_environment_variable_is_a_setting_that_validates(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_settings(rendered.settings, monkeypatch)


# References


def test_selectors_find_the_pods_and_the_service(rendered: Rendered) -> None:
    deployment = rendered.one("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert selects(deployment["selector"]["matchLabels"], labels)
    assert selects(rendered.one("Service")["spec"]["selector"], labels)
    assert selects(rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels)
    assert selects(rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], labels)
    for constraint in rendered.pod["topologySpreadConstraints"]:
        assert selects(constraint["labelSelector"]["matchLabels"], labels)
    service_labels = rendered.one("Service")["metadata"]["labels"]
    for monitor in rendered.all("ServiceMonitor"):
        assert selects(monitor["spec"]["selector"]["matchLabels"], service_labels)
        assert service_labels[monitor["spec"]["jobLabel"]] == "mixer"  # the job that queries ask for


def test_ports_are_those_that_the_service_listens_on(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = as_settings(rendered.settings, monkeypatch)
    ports = {port["name"]: port["containerPort"] for port in rendered.container["ports"]}
    api = {"http": settings.port} | ({"grpc": settings.grpc_port} if settings.grpc_port else {})
    assert ports == api | {"metrics": settings.metrics_port}
    service_ports = {port["name"]: port["targetPort"] for port in rendered.one("Service")["spec"]["ports"]}
    assert service_ports == {name: name for name in ports}
    let_in = [{port["port"] for port in rule["ports"]} for rule in rendered.one("NetworkPolicy")["spec"]["ingress"]]
    assert let_in == [api.keys(), {"metrics"}]
    for monitor in rendered.all("ServiceMonitor"):
        assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == ["metrics"]


def test_the_way_in_from_outside_is_to_the_api_alone(rendered: Rendered) -> None:
    service = rendered.one("Service")
    (api,) = (port for port in service["spec"]["ports"] if port["name"] == "http")
    backends = [
        path["backend"]["service"]
        for ingress in rendered.all("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    backends += [
        {"name": backend["name"], "port": {"name": "http"} if backend["port"] == api["port"] else backend["port"]}
        for route in rendered.all("HTTPRoute")
        for rule in route["spec"]["rules"]
        for backend in rule["backendRefs"]
    ]
    assert all(backend == {"name": service["metadata"]["name"], "port": {"name": "http"}} for backend in backends)
    assert len(backends) == len(rendered.all("Ingress")) + len(rendered.all("HTTPRoute"))
    for ingress in rendered.all("Ingress"):
        assert {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]} == {
            rule["host"] for rule in ingress["spec"]["rules"]
        }


def test_the_stacks_prometheus_reads_what_has_its_label(tmp_path: Path) -> None:
    rendered = render(compose(tmp_path, "cpu", "kube-prometheus-stack"))
    read = [*rendered.all("ServiceMonitor"), *rendered.all("PrometheusRule")]
    assert len(read) == 3
    assert all(manifest["metadata"]["labels"]["release"] == "kube-prometheus-stack" for manifest in read)
    assert "release" not in rendered.one("Deployment")["metadata"]["labels"]


def test_what_the_pod_refers_to_exists(rendered: Rendered) -> None:
    rendered.named("ServiceAccount", rendered.pod["serviceAccountName"])
    volumes = {volume["name"]: volume for volume in rendered.pod.get("volumes", [])}
    assert {mount["name"] for mount in rendered.container.get("volumeMounts", [])} == volumes.keys()
    for volume in volumes.values():
        if claim := volume.get("persistentVolumeClaim"):
            rendered.named("PersistentVolumeClaim", claim["claimName"])


def test_files_that_settings_name_are_mounted(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = as_settings(rendered.settings, monkeypatch)
    mounts = {mount["mountPath"]: mount for mount in rendered.container.get("volumeMounts", [])}
    named = [file.parent for file in (settings.api_keys_file, settings.admin_keys_file) if file]
    assert len(set(named)) == len(named)  # a Secret each
    if "model_repository" in settings.model_fields_set:
        named.append(settings.model_repository)
    for folder in named:
        assert mounts[str(folder)]["readOnly"]


def test_an_autoscaler_owns_the_replicas_alone(rendered: Rendered) -> None:
    deployment = rendered.one("Deployment")
    scalers = rendered.all("HorizontalPodAutoscaler") + rendered.all("ScaledObject")
    assert ("replicas" in deployment["spec"]) == (not scalers)
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


# Nothing is lost


def test_the_grace_period_covers_the_drain(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = as_settings(rendered.settings, monkeypatch)
    assert "lifecycle" not in rendered.container  # a preStop sleep would count as well
    needed = settings.drain_seconds + settings.deadline_ms / 1000 + NEWCOMERS
    assert rendered.pod["terminationGracePeriodSeconds"] >= needed + 10


def test_some_replica_serves_through_rollouts_and_evictions(rendered: Rendered) -> None:
    deployment = rendered.one("Deployment")["spec"]
    scalers = rendered.all("HorizontalPodAutoscaler") + rendered.all("ScaledObject")
    fewest = [scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount")) for scaler in scalers]
    (replicas,) = fewest or [deployment["replicas"]]
    rolling = deployment["strategy"]["rollingUpdate"]
    assert replicas > rolling["maxUnavailable"]
    assert rolling["maxUnavailable"] + rolling["maxSurge"] > 0
    assert 0 < rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] < replicas


def test_probes_are_patient_with_load_and_start_up(rendered: Rendered) -> None:
    startup, ready, live = (rendered.container[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
    assert (
        startup["periodSeconds"] * startup["failureThreshold"]
        < rendered.one("Deployment")["spec"]["progressDeadlineSeconds"]
    )
    assert live["periodSeconds"] * live["failureThreshold"] >= 60
    for probe in (ready, live):
        assert probe["timeoutSeconds"] <= probe["periodSeconds"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < live["periodSeconds"] * live["failureThreshold"]


# Cores and memory


def test_limits_equal_requests_in_whole_cores(rendered: Rendered) -> None:
    """The service counts the cores of its quota; whole ones can be exclusive."""
    requests, limits = rendered.container["resources"]["requests"], rendered.container["resources"]["limits"]
    assert requests.items() <= limits.items()
    assert limits.keys() - requests.keys() <= {"nvidia.com/gpu"}
    assert int(requests["cpu"]) >= 1


def test_memory_holds_what_the_settings_let_in(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, limits = as_settings(rendered.settings, monkeypatch), rendered.container["resources"]["limits"]
    limit, model = memory(limits["memory"]), (ROOT / "models" / "digits" / "1" / "model.onnx").stat().st_size
    shape = choose_shape(
        int(limits["cpu"]), model, limit, lanes=settings.lanes, threads=settings.threads, providers=settings.providers
    )
    assert shape.lanes == (1 if "nvidia.com/gpu" in limits else int(limits["cpu"]))
    # A lane decodes one image at a time: as measured, 16 bytes for each pixel of the worst format, RGBA.
    lane = LANE_BYTES + COPIES * model + 16 * settings.max_pixels
    assert lane <= shape.lane_memory
    bodies = settings.max_inflight_bytes
    if settings.grpc_port:  # messages on their way, and short ones (docs/grpc.md)
        bodies += settings.max_inflight_bytes + 4 * settings.max_body_bytes
    assert FRONT_BYTES + bodies + shape.lanes * lane <= limit


# Security


def test_pods_meet_the_restricted_standard_and_more(rendered: Rendered) -> None:
    """kubernetes.io/docs/concepts/security/pod-security-standards, "Restricted"."""
    pod, container = rendered.pod, rendered.container
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,  # more than the standard asks
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "secret"}
    for volume in pod.get("volumes", []):
        assert volume.keys() - {"name"} <= allowed
    assert not any("hostPort" in port for port in container["ports"])


def test_pods_know_nothing_of_the_cluster(rendered: Rendered) -> None:
    assert pod_is_alone(rendered.pod)
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    policy = rendered.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["from"] and rule["ports"] for rule in policy["ingress"])
    ways_out = {port["port"] for rule in policy["egress"] for port in rule["ports"] if rule["to"]}
    if collector := rendered.settings.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        _, _, namespace = httpx.URL(collector).host.removesuffix(".svc").partition(".")
        assert ways_out == {httpx.URL(collector).port, 53}
        assert {"kubernetes.io/metadata.name": namespace} in [
            peer["namespaceSelector"]["matchLabels"] for rule in policy["egress"] for peer in rule["to"]
        ]
    else:
        assert policy["egress"] == []


def pod_is_alone(pod: Manifest) -> bool:
    """No token, and no variables of Services: one called mixer would set MIXER_PORT to an address."""
    return pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False


# Against the running service


def test_probed_paths_answer(rendered: Rendered, service: ServiceProcess) -> None:
    for probe in ("startup", "readiness", "liveness"):
        request = rendered.container[f"{probe}Probe"]["httpGet"]
        assert request["port"] == "http"
        assert httpx.get(service.url + request["path"]).status_code == 200


def test_metrics_that_are_asked_for_exist(rendered: Rendered, service: ServiceProcess) -> None:
    queries = [
        trigger["metadata"]["query"]
        for scaled in rendered.all("ScaledObject")
        for trigger in scaled["spec"]["triggers"]
    ]
    queries += [
        rule["expr"]
        for rules in rendered.all("PrometheusRule")
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
    ]
    wanted = {name for query in queries for name in re.findall(r"(?<![:\w])mixer_\w+", query)}
    scrape = httpx.get(f"http://127.0.0.1:{service.metrics_port}/metrics").text
    # Of a metric whose labels come with use there is only the declaration.
    assert wanted <= set(re.findall(r"^(?:# TYPE )?(mixer_\w+)", scrape, re.MULTILINE))
    for monitor in rendered.all("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert httpx.get(f"http://127.0.0.1:{service.metrics_port}{endpoint['path']}").status_code == 200


def test_the_overlay_in_the_docs_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (overlay,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "kubernetes.md").read_text(), re.DOTALL)
    digest = f"sha256:{'0' * 64}"
    overlay = overlay.replace("../deploy/kubernetes", os.path.relpath(KUBERNETES, tmp_path.resolve()))
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("sha256:...", digest))
    rendered = render(tmp_path)
    assert rendered.container["image"] == f"registry.my.net/mixer-serving@{digest}"
    assert as_settings(rendered.settings, monkeypatch).latency_target_ms == 200
    assert rendered.one("HorizontalPodAutoscaler")


# Scaling


def test_keda_wants_replicas_for_all_images_that_clients_send(promtool: str, tmp_path: Path) -> None:
    """100 answered and 50 refused a second, where a replica predicts 100, are the work of one and a half replicas.

    20 of a version of which it predicts 40 are half of one's, and one that has gone counts as long as its rate does.
    What another installation is asked for is its own.
    """
    scaled = render(compose(tmp_path / "overlay", "cpu", "keda")).one("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]

    def series(name: str, pod: str, values: str, **labels: str) -> dict[str, str]:
        of_version = {"namespace": scaled["metadata"]["namespace"], "job": "mixer", "model": "m", "version": "1"}
        text = ",".join(f'{key}="{value}"' for key, value in (of_version | {"pod": pod} | labels).items())
        return {"series": f"{name}{{{text}}}", "values": values}

    test = {
        "interval": "15s",
        "input_series": [
            series("mixer_images_total", "a", "0+1500x20", outcome="ok"),
            series("mixer_images_total", "b", "0+750x20", outcome="rejected"),
            series("mixer_images_total", "b", "0+750x20", outcome="invalid"),
            series("mixer_predicted_capacity_images_per_second", "a", "90x20"),
            series("mixer_predicted_capacity_images_per_second", "b", "110x20"),
            series("mixer_images_total", "b", "0+300x20", outcome="ok", version="2"),
            series("mixer_predicted_capacity_images_per_second", "b", "40x20", version="2"),
            series("mixer_images_total", "a", "0+1500x8 stale", outcome="ok", version="3"),
            series("mixer_predicted_capacity_images_per_second", "a", "100x8 stale", version="3"),
            series("mixer_images_total", "c", "0+3000x20", outcome="ok", namespace="another"),
            series("mixer_predicted_capacity_images_per_second", "c", "500x20", namespace="another"),
        ],
        "promql_expr_test": [
            {
                "expr": trigger["metadata"]["query"],
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": replicas}],
            }
            for at, replicas in (("2m15s", 3), ("4m", 2))
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    result = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert float(trigger["metadata"]["threshold"]) < 1


# The Prometheus operator's copy of the rules


def test_the_operators_rules_are_those_of_deploy_prometheus(tmp_path: Path) -> None:
    rendered = render(compose(tmp_path, "cpu", "prometheus-operator"))
    groups = {manifest["metadata"]["name"]: manifest["spec"] for manifest in rendered.all("PrometheusRule")}
    files = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    assert groups == {f"mixer-{file.stem}": yaml.safe_load(file.read_text()) for file in files}, "make kubernetes-rules"


# KServe


def test_kserve_runs_the_same_container(kserve: Rendered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deployed = render(compose(tmp_path, "cpu"))
    runtime, predictor = kserve.one("ServingRuntime")["spec"], kserve.one("InferenceService")["spec"]["predictor"]
    (container,) = runtime["containers"]
    assert container["image"] == deployed.container["image"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    settings = as_settings(environment, monkeypatch)
    assert deployed.settings.items() <= environment.items()
    assert str(settings.model_repository) == "/mnt/models"
    assert [port["containerPort"] for port in container["ports"]] == [settings.port]
    assert runtime["annotations"]["prometheus.kserve.io/port"] == str(settings.metrics_port)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        expected = deployed.container[probe]
        assert container[probe] == {**expected, "httpGet": {**expected["httpGet"], "port": settings.port}}
    assert container["securityContext"].items() >= deployed.container["securityContext"].items()
    assert container["resources"].keys() == {"requests", "limits"}
    assert pod_is_alone(predictor)
    assert predictor["terminationGracePeriodSeconds"] == deployed.pod["terminationGracePeriodSeconds"]


def test_kserve_finds_the_runtime(kserve: Rendered) -> None:
    runtime = kserve.one("ServingRuntime")
    model = kserve.one("InferenceService")["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in [known["name"] for known in runtime["spec"]["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_kserves_clients_find_the_model_by_the_name_of_its_service(kserve: Rendered) -> None:
    (container,) = kserve.one("ServingRuntime")["spec"]["containers"]
    arguments = [argument.replace("{{.Name}}", "digits") for argument in container["args"]]
    with running_service("--model-repository", str(ROOT / "models"), *arguments) as service:
        for path in ("health/live", "health/ready", "models/digits", "models/digits/ready"):
            assert httpx.get(f"{service.url}/v2/{path}").status_code == 200
