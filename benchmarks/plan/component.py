"""The plan as a kustomize component: patches of what deploy/kubernetes has, which fail where that is missing."""

from typing import Literal

from benchmarks.plan.sizing import Sizing

Autoscaler = Literal["none", "hpa", "keda"]

_HEAD = """\
# Written by `{command}`; README.md beside it has the reasons.
# Add it to an overlay of deploy/kubernetes{after}.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
"""

_RESOURCES = """\
  - patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: mixer
      spec:
        template:
          spec:
            containers:
              - name: mixer
                resources: # limits equal requests: the service counts the cores of its quota
                  requests:
{quantities}
                  limits:
{quantities}
"""

_REPLICAS = """\
  - target:
      kind: Deployment
      name: mixer
    patch: |-
      # Fails where an autoscaler owns the replicas: then the plan has to be made with --autoscaler.
      - op: remove
        path: /spec/replicas
      - op: add
        path: /spec/replicas
        value: {replicas}
"""

_HPA = """\
  - patch: |-
      apiVersion: autoscaling/v2
      kind: HorizontalPodAutoscaler
      metadata:
        name: mixer
      spec:
        minReplicas: {fewest}
        maxReplicas: {most}
        metrics:
          - type: Resource
            resource:
              name: cpu
              target:
                type: Utilization
                averageUtilization: {percent} # of the request, at {load:.1f} img/s a pod
"""

_KEDA = """\
  - patch: |-
      apiVersion: keda.sh/v1alpha1
      kind: ScaledObject
      metadata:
        name: mixer
      spec:
        minReplicaCount: {fewest}
        maxReplicaCount: {most}
        fallback:
          replicas: {replicas}
  - target:
      kind: ScaledObject
      name: mixer
    patch: |-
      # Of the capacity that a replica predicts for itself: {load:.1f} img/s a pod.
      - op: replace
        path: /spec/triggers/0/metadata/threshold
        value: "{share:.3g}"
"""


def render(sizing: Sizing, autoscaler: Autoscaler, command: str, resources: list[str]) -> str:
    """The kustomization.yaml; `resources` are files beside it that it brings along."""
    after = f", after components/{autoscaler}" if autoscaler != "none" else ""
    parts = [_HEAD.format(command=command, after=after)]
    if resources:
        parts += ["resources:\n", *(f"  - {name}\n" for name in resources)]
    quantities = [f'cpu: "{sizing.cores}"']
    if sizing.memory_bytes:
        quantities.append(f"memory: {sizing.memory_bytes // 2**20}Mi")
    parts += ["patches:\n", _RESOURCES.format(quantities="\n".join(" " * 20 + quantity for quantity in quantities))]
    parts.append(_SCALING[autoscaler].format(
        replicas=sizing.replicas,
        fewest=sizing.fewest,
        most=sizing.most,
        percent=utilisation_percent(sizing),
        load=sizing.scaling_load,
        share=sizing.capacity_share,
    ))  # fmt: skip
    return "".join(parts)


def utilisation_percent(sizing: Sizing) -> int:
    """The HPA's target."""
    return max(1, round(100 * (sizing.cpu_utilisation or 0)))


_SCALING: dict[Autoscaler, str] = {"none": _REPLICAS, "hpa": _HPA, "keda": _KEDA}
