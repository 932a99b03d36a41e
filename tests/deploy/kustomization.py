"""deploy/kubernetes as `kubectl apply -k` would send it: rendered by a real kustomize."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"
Manifest = dict[str, Any]

EXCLUSIVE = (("hpa", "keda"), ("model-volume", "model-image"), ("prometheus-operator", "kube-prometheus-stack"))
OTHERS = ("api-keys", "admin-keys", "grpc", "tracing", "ingress", "httproute")
COMBINATIONS = (  # every overlay and component, each pair of components that go together, and some alone
    ("cpu",),
    ("gpu",),
    ("cpu", "hpa", "prometheus-operator", "model-volume", *OTHERS),
    ("gpu", "hpa", "kube-prometheus-stack", "model-image", *OTHERS),
    ("cpu", "keda", "prometheus-operator", "model-image", *OTHERS),
    ("gpu", "keda", "kube-prometheus-stack", "model-volume", *OTHERS),
    ("cpu", "hpa", "api-keys"),
    ("cpu", "keda", "admin-keys", "ingress"),
    ("cpu", "prometheus-operator", "tracing"),
    ("gpu", "model-image", "httproute"),
    ("cpu", "grpc"),
)


@dataclass(frozen=True)
class Rendered:
    """The manifests of one combination."""

    text: str
    manifests: list[Manifest]

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (manifest,) = self.all(kind)
        return manifest

    def named(self, kind: str, name: str) -> Manifest:
        (manifest,) = (manifest for manifest in self.all(kind) if manifest["metadata"]["name"] == name)
        return manifest

    @property
    def pod(self) -> Manifest:
        spec: Manifest = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def settings(self) -> dict[str, str]:
        """The environment that the container gets, resolved."""
        (source,) = self.container["envFrom"]
        data: dict[str, str] = self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        assert "env" not in self.container
        return data


def manifests_of(text: str) -> list[Manifest]:
    """Read by libyaml, which takes a tenth of the time."""
    return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]


@cache
def render(folder: Path) -> Rendered:
    """Skips the test where there is no kustomize, which neither PyPI nor Debian 12 has in a usable version."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return Rendered(result.stdout, manifests_of(result.stdout))


def check_fields(manifest: Manifest, version: str) -> None:
    """That this version of Kubernetes knows every field; overlays share most of their manifests."""
    _check_fields(json.dumps(manifest, sort_keys=True), version)


@cache
def _check_fields(manifest: str, version: str) -> None:
    import kubernetes_validate  # noqa: PLC0415 - takes two seconds, where tests are collected too

    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


def compose(folder: Path, overlay: str, *components: str) -> Path:
    """Write what an operator's own overlay would say into `folder`."""

    def reference(part: str) -> str:
        return os.path.relpath(KUBERNETES / part, folder.resolve())

    kustomization = {
        "namespace": "mixer",
        "resources": [reference(f"overlays/{overlay}")],
        "components": [reference(f"components/{component}") for component in components],
    }
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder
