"""Alerts that say when reality leaves the plan, as rules of Prometheus or of its operator."""

import textwrap

from benchmarks.plan.capacity import Capacity
from benchmarks.plan.demand import Demand
from benchmarks.plan.sizing import Sizing

_GROUP = """\
# When reality leaves the plan; README.md beside it has the reasons.
groups:
  - name: mixer-plan
    rules:
"""

_ALERT = """\
      - alert: {name}
        expr: {expr}
        for: {minutes}m
        labels: {{severity: warning}}
        annotations:
          summary: "{{{{ $labels.job }}}}: {summary}"
          description: {description}
          runbook_url: docs/sizing.md#alerts
"""

_OPERATOR = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mixer-plan
spec:
"""

_VALUE = "{{ $value | humanize }}"
_ROUTES = 'route=~"/v1/(classify|features)|/.+/(infer|ModelInfer)"'


def rules(model: str, demand: Demand, capacity: Capacity, sizing: Sizing) -> str:
    """A file for Prometheus. Images that are refused were wanted, too."""
    wanted = f'(rate(mixer_images_total{{model="{model}", outcome=~"ok|rejected|expired"}}[5m]))'
    duration = f'rate(mixer_request_duration_seconds_bucket{{{_ROUTES}, code!="429"}}[5m])'
    alerts = [
        _ALERT.format(
            name="MixerDemandAbovePlan",
            expr=f"sum by (namespace, job) {wanted} > {demand.rate:.5g}",
            minutes=10,
            summary=f"{_VALUE} images a second are asked for, {demand.rate:.5g} were planned",
            description="The headroom is being used up. Plan again for more.",
        ),
        _ALERT.format(
            name="MixerPodsAbovePlan",
            expr=f"sum by (namespace, job) {wanted} / count by (namespace, job) (mixer_ready == 1) > "
            f"{sizing.per_pod:.5g}",
            minutes=10,
            summary=f"{_VALUE} images a second for each pod, {sizing.per_pod:.5g} were planned",
            description="There are fewer pods than this demand needs.",
        ),
        _ALERT.format(
            name="MixerPodAboveCapacity",
            expr=f"max by (namespace, job) (sum by (namespace, job, instance) {wanted}) > {capacity.rate:.5g}",
            minutes=5,
            summary=f"one pod is asked for {_VALUE} images a second, and holds {capacity.rate:.5g}",
            description="If the others have less, clients' connections are badly spread.",
        ),
        _ALERT.format(
            name="MixerSlowerThanPlanned",
            expr=f"histogram_quantile(0.99, sum by (namespace, job, le) ({duration})) > {demand.p99_ms / 1000:.5g}",
            minutes=10,
            summary="1 % of the answers take more than {{ $value | humanizeDuration }}",
            description=f"The plan is for {demand.p99_ms / 1000:.5g} s.",
        ),
    ]
    return _GROUP + "\n".join(alerts)


def operators_rule(rules: str) -> str:
    """The same for the Prometheus operator."""
    return _OPERATOR + textwrap.indent(rules, "  ")
