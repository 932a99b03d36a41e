"""deploy/helm makes the objects of deploy/kubernetes, and refuses what cannot go together."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings, variable
from tests.deploy.helm import CHART, Refused, Values, helm, template
from tests.deploy.kustomization import COMBINATIONS, EXCLUSIVE, Manifest, Rendered, compose, render

# The values that a component or overlay of kustomize is.
SECTIONS: dict[str, Values] = {
    "cpu": {},
    "gpu": {"gpu": {"enabled": True}},
    "hpa": {"hpa": {"enabled": True}},
    "keda": {"keda": {"enabled": True}},
    "prometheus-operator": {"prometheusOperator": {"enabled": True}},
    "kube-prometheus-stack": {"prometheusOperator": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}}},
    "model-volume": {"modelVolume": {"enabled": True}},
    "model-image": {"modelImage": {"enabled": True}},
    "api-keys": {"apiKeys": {"enabled": True}},
    "admin-keys": {"adminKeys": {"enabled": True}},
    "grpc": {"grpc": {"enabled": True}},
    "tracing": {"tracing": {"enabled": True}},
    "ingress": {"ingress": {"enabled": True}},
    "httproute": {"httpRoute": {"enabled": True}},
}


def values(*parts: str) -> Values:
    merged: Values = {}
    for part in parts:
        merged |= SECTIONS[part]
    return merged


def by_name(rendered: Rendered) -> dict[tuple[str, str], Manifest]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in rendered.manifests}


@pytest.mark.parametrize("combination", COMBINATIONS, ids="+".join)
def test_the_chart_renders_to_the_objects_of_kustomize(combination: tuple[str, ...], tmp_path: Path) -> None:
    """To the last field and name; but for what tells Helm to keep settings that old pods may still need."""
    kustomize = by_name(render(compose(tmp_path / "overlay", *combination)))
    chart = by_name(template(tmp_path, values(*combination)))
    (settings,) = (manifest for (kind, _), manifest in chart.items() if kind == "ConfigMap")
    assert settings["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert chart == kustomize


def test_settings_are_what_kustomize_makes_of_them(tmp_path: Path) -> None:
    """Names with a hash of the content, numbers without exponents."""
    settings = {
        "MIXER_MAX_BODY_BYTES": 2**24,
        "MIXER_LATENCY_TARGET_MS": 0.5,
        "MIXER_DEBUG": True,
        "MIXER_MODELS": "<&>",
    }
    folder = compose(tmp_path / "overlay", "cpu")
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    literals = ["MIXER_MAX_BODY_BYTES=16777216", "MIXER_LATENCY_TARGET_MS=0.5", "MIXER_DEBUG=true", "MIXER_MODELS=<&>"]
    kustomization["configMapGenerator"] = [{"name": "mixer-settings", "behavior": "merge", "literals": literals}]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    expected, (actual,) = render(folder).one("ConfigMap"), template(tmp_path, {"settings": settings}).all("ConfigMap")
    assert (actual["metadata"]["name"], actual["data"]) == (expected["metadata"]["name"], expected["data"])


def test_a_changed_setting_rolls_the_pods_and_nothing_else_does(tmp_path: Path) -> None:
    def names(values: Values) -> set[str]:
        rendered = template(tmp_path, values)
        name = rendered.one("ConfigMap")["metadata"]["name"]
        assert rendered.container["envFrom"] == [{"configMapRef": {"name": name}}]
        return {name}

    assert names({}) == names({"replicas": 5})
    assert names({}) != names({"settings": {"MIXER_MODELS": "digits/1"}})


def test_a_release_of_another_name_shares_nothing(tmp_path: Path) -> None:
    parts = values("keda", "kube-prometheus-stack", "model-volume", "api-keys", "admin-keys", "ingress", "httproute")
    mine, other = template(tmp_path, parts), template(tmp_path, parts, "mixer-canary", "elsewhere")
    assert not by_name(mine).keys() & by_name(other).keys()
    assert {manifest["metadata"]["namespace"] for manifest in other.manifests} == {"elsewhere"}
    labels = mine.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        other.one("Deployment")["spec"]["selector"]["matchLabels"],
        other.one("Service")["spec"]["selector"],
        other.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert not selector.items() <= labels.items()
    (trigger,) = other.one("ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["query"].count('namespace="elsewhere",job="mixer-canary"') == 2
    assert {volume["name"] for volume in other.pod["volumes"]} == {"api-keys", "admin-keys", "models"}
    assert "mixer-canary-api-keys" in str(other.pod["volumes"])


@pytest.mark.parametrize(
    ("image", "gpu", "expected"),
    [
        ({}, False, "registry.example.com/mixer-serving:0.1.0"),
        ({}, True, "registry.example.com/mixer-serving:0.1.0-gpu"),
        ({"repository": "r/m", "tag": "2"}, True, "r/m:2"),
        ({"tag": "2", "digest": f"sha256:{'0' * 64}"}, False, f"registry.example.com/mixer-serving@sha256:{'0' * 64}"),
    ],
)
def test_the_image(image: Values, gpu: bool, expected: str, tmp_path: Path) -> None:
    rendered = template(tmp_path, {"image": image, "gpu": {"enabled": gpu}})
    assert rendered.container["image"] == expected


# What cannot be


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        (values("hpa", "keda"), "hpa.enabled and keda.enabled: only one autoscaler can own the replicas"),
        (
            values("model-volume", "model-image"),
            "modelVolume.enabled and modelImage.enabled: models come from one place",
        ),
        ({"hpa": {"enabled": True, "minReplicas": 11}}, "hpa.minReplicas is above hpa.maxReplicas"),
        ({"keda": {"enabled": True, "maxReplicas": 1}}, "keda.minReplicas is above keda.maxReplicas"),
        ({"settings": {"MIXER_API_KEYS_FILE": "/k"}}, "use apiKeys.enabled"),
        ({"settings": {"MIXER_ADMIN_KEYS_FILE": "/k"}}, "use adminKeys.enabled"),
        ({"settings": {"MIXER_TRACING": True}}, "use tracing.enabled"),
        ({"settings": {"MIXER_GRPC_PORT": 8001}}, "use grpc.enabled"),
        ({"settings": {"MIXER_PORT": 80}}, "settings.MIXER_PORT: the probes and the Service count on"),
        (
            {"settings": {"MIXER_MODEL_REPOSITORY": "/m"}, **values("model-image")},
            "settings.MIXER_MODEL_REPOSITORY: modelVolume and modelImage set it",
        ),
        ({"settings": {"MIXER_DRAIN_SECONDS": 25}}, "terminationGracePeriodSeconds is below 31"),
        ({"settings": {"MIXER_DEADLINE_MS": "60000"}}, "terminationGracePeriodSeconds is below 71"),
    ],
    ids=str,
)
def test_what_cannot_go_together_is_refused_with_a_sentence(refused: Values, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=sentence.replace(".", r"\.")):
        template(tmp_path, refused)


def test_alerts_need_a_release_that_they_find(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="let the release's name contain mixer"):
        template(tmp_path, values("prometheus-operator"), release="classifier")


@pytest.mark.parametrize(
    "refused",
    [
        {"replica": 3},
        {"hpa": {"enable": True}},
        {"replicas": 0},
        {"resources": {"cpu": "1500m"}},
        {"resources": {"memory": "2G"}},
        {"settings": {"PORT": 80}},
        {"settings": {"MIXER_LATENCY_TARGET": 200}},
        {"image": {"digest": "sha256:12"}},
        {"keda": {"threshold": 0}},
        {"grpc": {"port": 8002}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_misspelt_or_impossible(refused: Values, tmp_path: Path) -> None:
    (section, inside), *_ = refused.items()
    name = next(iter(inside)) if isinstance(inside, dict) else section
    with pytest.raises(Refused, match=rf"values don't meet the specifications of the schema[\s\S]*{name}"):
        template(tmp_path, refused)


@pytest.mark.parametrize("pair", EXCLUSIVE, ids="+".join)
@pytest.mark.parametrize("layered", [False, True])
def test_kustomize_refuses_the_same_with_a_sentence(pair: tuple[str, str], layered: bool, tmp_path: Path) -> None:
    """Named in one overlay, or the second in an overlay of an overlay."""
    folder = compose(tmp_path / "one", "cpu", *pair[: 1 if layered else 2])
    if layered:
        folder = compose(tmp_path / "two", "cpu", pair[1])
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | {"resources": ["../one"]}))
    with pytest.raises(AssertionError, match=r"one autoscaler only|one source of models only|one of them"):
        render(folder)


# The chart itself


def test_helm_lint_finds_nothing(tmp_path: Path) -> None:
    for parts in (("cpu",), ("gpu", "keda", "model-image", "api-keys", "grpc", "tracing", "ingress", "httproute")):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values(*parts)))
        command = [helm(), "lint", "--strict", "--values", str(file), str(CHART)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


def test_a_packaged_chart_carries_the_rules(tmp_path: Path) -> None:
    """They are a link to deploy/prometheus in the repository, and files in the package."""
    subprocess.run([helm(), "package", str(CHART), "--destination", str(tmp_path)], check=True, capture_output=True)
    (archive,) = tmp_path.glob("mixer-serving-*.tgz")
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values("prometheus-operator")))
    command = [helm(), "template", "mixer", str(archive), "--values", str(file)]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rules = {m["metadata"]["name"] for m in yaml.safe_load_all(rendered) if m and m["kind"] == "PrometheusRule"}
    assert rules == {"mixer-alerts", "mixer-recording"}


def test_every_section_says_what_it_is_for() -> None:
    """A comment stands above or beside each value of the first level, and the schema knows it and no other."""
    text = (CHART / "values.yaml").read_text().splitlines()
    sections: dict[str, Any] = yaml.safe_load("\n".join(text))
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert sections.keys() == schema["properties"].keys() - {"global"}
    for name in sections.keys() - {"image"}:
        (line,) = (number for number, line in enumerate(text) if line.startswith(f"{name}:"))
        assert text[line - 1].startswith("#"), name


def test_the_schema_knows_the_settings_of_the_service() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["settings"]["properties"]
    assert known.keys() == {variable(name) for name in Settings.model_fields}


def test_the_chart_has_the_version_of_the_service() -> None:
    from service import __version__  # noqa: PLC0415

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
