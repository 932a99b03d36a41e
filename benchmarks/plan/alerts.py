"""Alerts that say when reality leaves the plan, as rules of Prometheus or of its operator."""

import textwrap

from benchmarks.plan.capacity import Capacity
from benchmarks.plan.demand import Demand
from benchmarks.plan.sizing import Sizing

_RULES = """\
# When reality leaves the plan; README.md beside it has the reasons.
groups:
  - name: mixer-plan
    rules:
      - alert: MixerDemandAbovePlan
        expr: |
          sum by (namespace, job) (rate({wanted}[5m])) > {rate:.5g}
        for: 10m
        labels: {{severity: warning}}
        annotations:
          summary: "{{{{ $labels.job }}}}: {{{{ $value | humanize }}}} images a second are asked for, {rate:.5g} were planned"
          description: The headroom is being used up. Plan again with a higher rate.
          runbook_url: docs/sizing.md#alerts

      - alert: MixerPodsAbovePlan
        expr: |
          sum by (namespace, job) (rate({wanted}[5m]))
            / count by (namespace, job) (mixer_ready == 1) > {per_pod:.5g}
        for: 10m
        labels: {{severity: warning}}
        annotations:
          summary: "{{{{ $labels.job }}}}: {{{{ $value | humanize }}}} images a second for each pod, {per_pod:.5g} were planned"
          description: There are fewer pods than this demand needs.
          runbook_url: docs/sizing.md#alerts

      - alert: MixerPodAboveCapacity
        expr: |
          max by (namespace, job) (sum by (namespace, job, instance) (rate({wanted}[5m]))) > {capacity:.5g}
        for: 5m
        labels: {{severity: warning}}
        annotations:
          summary: "{{{{ $labels.job }}}}: one pod is asked for {{{{ $value | humanize }}}} images a second, and holds {capacity:.5g}"
          description: If the others have less, clients' connections are badly spread.
          runbook_url: docs/sizing.md#alerts

      - alert: MixerSlowerThanPlanned
        expr: |
          histogram_quantile(0.99, sum by (namespace, job, le) (
            rate(mixer_request_duration_seconds_bucket{{route=~"/v1/classify|/v2/models/.+/infer"}}[5m])
          )) > {seconds:.5g}
        for: 10m
        labels: {{severity: warning}}
        annotations:
          summary: "{{{{ $labels.job }}}}: 1 % of the answers take more than {{{{ $value | humanizeDuration }}}}"
          description: The plan is for {seconds:.5g} s.
          runbook_url: docs/sizing.md#alerts
"""

_OPERATOR = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mixer-plan
spec:
"""


def rules(model: str, demand: Demand, capacity: Capacity, sizing: Sizing) -> str:
    """A file for Prometheus."""
    return _RULES.format(
        wanted=f'mixer_images_total{{model="{model}", outcome=~"ok|rejected|expired"}}',
        rate=demand.rate,
        per_pod=sizing.per_pod,
        capacity=capacity.rate,
        seconds=demand.p99_ms / 1000,
    )


def operators_rule(rules: str) -> str:
    """The same for the Prometheus operator."""
    return _OPERATOR + textwrap.indent(rules, "  ")
