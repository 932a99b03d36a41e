"""The dashboard's source: `python deploy/grafana/dashboard.py` writes dashboards/mixer.json.

Rows of panels, each with what it means; where they stand, their ids and Grafana's JSON follow from that.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent / "dashboards" / "mixer.json"

FLEET = 'namespace=~"$namespace", job=~"$job"'
MODEL = f'{FLEET}, model=~"$model"'
ANSWERED = f'{MODEL}, outcome="ok"'
IMAGES_IN = f'{FLEET}, route=~"/v1/(classify|features)|/.+/(infer|ModelInfer)"'
NOT_REFUSED = f'{IMAGES_IN}, code!="429"'
DECODING = f'{FLEET}, stage="decode"'
INSIDE = f'{MODEL}, stage!="receive"'
PASSED = f'{MODEL}, stage="infer"'
FAILED = f'{MODEL}, outcome=~"error|expired"'
REFUSED = f'{MODEL}, outcome="rejected"'
CONTAINER = 'namespace=~"$namespace", container=~"mixer|kserve-container"'
COLUMNS = 24
COLOURS = {  # of series by their legend: good, refused, ours, late, theirs
    "^(200|ok)$": "#3fa35b",
    "^(429|rejected)$": "#e8853d",
    "^(50[0-3]|error)$": "#c94f4f",
    "^(504|expired)$": "#8b65c4",
    "^(4(?!29)..|invalid|cancelled)$": "#9aa4ae",
}


@dataclass(frozen=True)
class Panel:
    """`queries` are PromQL by legend; `lines` horizontal lines, in the panel's unit, where alerts begin."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    stacked: bool = False
    lines: tuple[float, ...] = ()
    height: int = 7


def rate(metric: str, labels: str = FLEET) -> str:
    """Per second, over a window that suits the zoom."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def quantile(q: float, metric: str, labels: str, by: str = "") -> str:
    """Of a histogram, over all replicas."""
    return f"histogram_quantile({q}, sum by (le{by}) ({rate(f'{metric}_bucket', labels)}))"


def stat(title: str, description: str, unit: str, query: str) -> Panel:
    """One figure."""
    return Panel(title, description, unit, {"": query}, kind="stat", height=4)


MEAN_TIME = (
    f"sum by (model, version) ({rate('mixer_stage_duration_seconds_sum', INSIDE)})"
    f" / sum by (model, version) ({rate('mixer_stage_duration_seconds_count', PASSED)})"
)

ROWS: dict[str, list[Panel]] = {
    "Now": [
        stat("Replicas ready", "Replicas that take traffic.", "short", f"sum(mixer_ready{{{FLEET}}})"),
        stat("Images per second", "Answered with predictions.", "short", f"sum(job:mixer_images:rate5m{{{FLEET}}})"),
        stat(
            "Per core allowed",
            "Images per second and core that the replicas may use: what you pay for. Grows with load.",
            "short",
            f"sum(job:mixer_images:rate5m{{{FLEET}}}) / sum(mixer_cores{{{FLEET}}})",
        ),
        stat(
            "Per core used",
            "Images per second of engine time and core: how fast the engine is, whatever the load.",
            "short",
            f"sum(job_model:mixer_images:rate5m{{{MODEL}}})"
            f" / sum(job_model:mixer_engine_core_seconds:rate5m{{{MODEL}}})",
        ),
        stat(
            "Within 0.5 s",
            "Share of the requests of the last 5 minutes; the objective is 99 %.",
            "percentunit",
            f"1 - sum(job:mixer_requests_slow:rate5m{{{FLEET}}}) / sum(job:mixer_requests_timed:rate5m{{{FLEET}}})",
        ),
        stat(
            "Neither failed nor refused",
            "Share of the requests of the last 5 minutes; the objective is 99.9 %.",
            "percentunit",
            f"1 - sum(job:mixer_requests_failed:rate5m{{{FLEET}}}) / sum(job:mixer_requests:rate5m{{{FLEET}}})",
        ),
    ],
    "Traffic and objectives": [
        Panel(
            "Requests by status",
            "429 is a refusal at the door, 499 a client that left, 5xx a failure of ours.",
            "reqps",
            {"{{code}}": f"sum by (code) ({rate('mixer_requests_total', IMAGES_IN)})"},
            stacked=True,
        ),
        Panel(
            "Availability: burn rate",
            "How many times faster than sustainable the budget of 0.1 % is spent: 1 lasts 30 days, 14.4 two.",
            "short",
            {
                "5 min": f"job:mixer_requests_failed:ratio_rate5m{{{FLEET}}} / 0.001",
                "1 h": f"job:mixer_requests_failed:ratio_rate1h{{{FLEET}}} / 0.001",
                "1 d": f"job:mixer_requests_failed:ratio_rate1d{{{FLEET}}} / 0.001",
            },
            lines=(1, 14.4),
        ),
        Panel(
            "Latency: burn rate",
            "How many times faster than sustainable the budget of 1 % slower than 0.5 s is spent.",
            "short",
            {
                "5 min": f"job:mixer_requests_slow:ratio_rate5m{{{FLEET}}} / 0.01",
                "1 h": f"job:mixer_requests_slow:ratio_rate1h{{{FLEET}}} / 0.01",
                "1 d": f"job:mixer_requests_slow:ratio_rate1d{{{FLEET}}} / 0.01",
            },
            lines=(1, 14.4),
        ),
    ],
    "Images per second": [
        Panel(
            "Images per second and capacity",
            "Answered images, and what the passes that were measured at start come to: decoding is not in it.",
            "short",
            {
                "{{model}}/{{version}}": f"sum by (model, version) ({rate('mixer_images_total', ANSWERED)})",
                "{{model}}/{{version}}, passes alone": "sum by (model, version)"
                f" (mixer_predicted_capacity_images_per_second{{{MODEL}}})",
            },
        ),
        Panel(
            "Per core allowed, by model",
            "What you pay for: images per second over the cores that affinity and CPU quota allow.",
            "short",
            {
                "{{model}}": f"sum by (model) (job_model:mixer_images:rate5m{{{MODEL}}})"
                f" / scalar(sum(mixer_cores{{{FLEET}}}))"
            },
        ),
        Panel(
            "Per core used, by version",
            "Passes alone, and what was measured at start at the best batch size. A quarter of it is too slow.",
            "short",
            {
                "{{model}}/{{version}}": f"sum by (model, version) ({rate('mixer_images_total', ANSWERED)})"
                f" / sum by (model, version) ({rate('mixer_engine_core_seconds_total', MODEL)})",
                "{{model}}/{{version}}, at start": f"job_model_version:mixer_images_per_core_calibrated:avg{{{MODEL}}}",
            },
        ),
    ],
    "Latency": [
        Panel(
            "Request latency",
            "From a request's head to its last byte handed over, uploads included, refusals left out.",
            "s",
            {f"p{q * 100:g}": quantile(q, "mixer_request_duration_seconds", NOT_REFUSED) for q in (0.5, 0.9, 0.99)},
            lines=(0.5,),
        ),
        Panel(
            "Mean time by stage",
            "Where an image's time goes. Queue is the wait for a lane, and there for the images of the same batch.",
            "s",
            {
                "{{stage}}": f"sum by (stage) ({rate('mixer_stage_duration_seconds_sum')})"
                f" / sum by (stage) ({rate('mixer_stage_duration_seconds_count')})"
            },
            stacked=True,
        ),
        Panel(
            "p99 by stage",
            "The slow ones: receive is the client's network, decode its image, queue the load, infer the pass.",
            "s",
            {"{{stage}}": quantile(0.99, "mixer_stage_duration_seconds", FLEET, by=", stage")},
        ),
    ],
    "Versions compared": [
        Panel(
            "Mean time of an image, by version",
            "From the queue to its answer: decoding, waiting, pass and what comes after. Which version answers faster?",
            "s",
            {"{{model}}/{{version}}": MEAN_TIME},
        ),
        Panel(
            "Failed or late, by version",
            "Share of the images that were let in: the engine failed on them, or their answers came too late.",
            "percentunit",
            {
                "{{model}}/{{version}}": f"sum by (model, version) ({rate('mixer_images_total', FAILED)})"
                f" / sum by (model, version) ({rate('mixer_admitted_images_total', MODEL)})"
            },
        ),
        Panel(
            "Refused, by version",
            "Share of the images that came.",
            "percentunit",
            {
                "{{model}}/{{version}}": f"sum by (model, version) ({rate('mixer_images_total', REFUSED)})"
                f" / sum by (model, version) ({rate('mixer_images_total', MODEL)})"
            },
        ),
    ],
    "Batching": [
        Panel(
            "Batch size",
            "Mean images in a pass. Grows with load by itself; at the largest size there is nothing left to gain.",
            "short",
            {
                "{{model}}": f"sum by (model) ({rate('mixer_batch_size_sum', MODEL)})"
                f" / sum by (model) ({rate('mixer_batch_size_count', MODEL)})"
            },
        ),
        Panel(
            "Passes by reason",
            "idle: a lane was free and took what there was. full: as many waited as a batch holds, or more.",
            "cps",
            {"{{reason}}": f"sum by (reason) ({rate('mixer_passes_total', MODEL)})"},
            stacked=True,
        ),
        Panel(
            "Queue",
            "Images that wait for a lane, by model.",
            "short",
            {"{{model}}": f"sum by (model) (mixer_queue_depth{{{MODEL}}})"},
        ),
    ],
    "Front and lanes": [
        Panel(
            "Lanes busy",
            "Share of their time that the lanes decode or pass. At 1 every further image waits.",
            "percentunit",
            {"{{job}}": f"job:mixer_lanes_busy:ratio_rate5m{{{FLEET}}}"},
        ),
        Panel(
            "Front CPU",
            "Share of the time that the front is busy, by replica. It is one thread: at 1 it is full.",
            "percentunit",
            {"{{instance}}": rate("mixer_front_cpu_seconds_total")},
            lines=(0.9,),
        ),
        Panel(
            "Lanes ready",
            "Lanes that serve, and that should, all replicas together. More than should: a new version is loading.",
            "short",
            {"ready": f"sum(mixer_lanes_ready{{{FLEET}}})", "should be": f"sum(mixer_lanes{{{FLEET}}})"},
        ),
        Panel(
            "Lane restarts by reason",
            "Lanes that were lost and replaced. crash: it ended by itself. hang: its batch took too long. "
            "memory: it held nearly all of its share.",
            "short",
            {"{{reason}}": f"sum by (reason) (increase(mixer_lane_restarts_total{{{FLEET}}}[$__rate_interval]))"},
        ),
    ],
    "Admission": [
        Panel(
            "Images by outcome",
            "Each image ends exactly once. expired: let in, and late all the same.",
            "short",
            {"{{outcome}}": f"sum by (outcome) ({rate('mixer_images_total', MODEL)})"},
            stacked=True,
        ),
        Panel(
            "Refusals by reason",
            "deadline: no time. inflight_images, inflight_bytes: no room. event_loop: a full front. no_lane: none.",
            "short",
            {"{{reason}}": f"sum by (reason) ({rate('mixer_rejections_total', MODEL)})"},
            stacked=True,
        ),
        Panel(
            "Images inside",
            "Let in and not answered yet, by replica.",
            "short",
            {"{{instance}}": f"mixer_inflight_images{{{FLEET}}}"},
        ),
    ],
    "Resources": [
        Panel(
            "CPU used and allowed",
            "Cores, all replicas together. The front by its CPU time, decoding and passes in the lanes by the clock.",
            "short",
            {
                "front": f"sum({rate('process_cpu_seconds_total')})",
                "decoding": f"sum({rate('mixer_stage_duration_seconds_sum', DECODING)})",
                "passes": f"sum({rate('mixer_engine_core_seconds_total')})",
                "allowed": f"sum(mixer_cores{{{FLEET}}})",
            },
        ),
        Panel(
            "Memory of the front",
            "Resident, by replica, without the lanes. It levels off after a time of full load.",
            "bytes",
            {"{{instance}}": f"process_resident_memory_bytes{{{FLEET}}}"},
        ),
        Panel(
            "Memory of the container",
            "The front and all lanes: what the container's limit counts (cAdvisor; Kubernetes only).",
            "bytes",
            {"{{pod}}": f"sum by (pod) (container_memory_working_set_bytes{{{CONTAINER}}})"},
        ),
        Panel(
            "CPU periods throttled",
            "Share of the container's CPU periods in which its limit stopped it (cAdvisor; Kubernetes only).",
            "percentunit",
            {
                "{{pod}}": f"sum by (pod) ({rate('container_cpu_cfs_throttled_periods_total', CONTAINER)})"
                f" / sum by (pod) ({rate('container_cpu_cfs_periods_total', CONTAINER)})"
            },
            lines=(0.25,),
        ),
    ],
    "Replicas and models": [
        Panel(
            "Ready and live",
            "By replica. Live, not ready: it starts, drains or replaces a model's only lane. Not live: it cannot.",
            "short",
            {
                "{{instance}} ready": f"mixer_ready{{{FLEET}}}",
                "{{instance}} live": f"mixer_live{{{FLEET}}}",
            },
        ),
        Panel(
            "Models",
            "What is served by how many replicas. One version with two sha256 is a mistake.",
            "short",
            {
                "": f"count by (model, version, variant, precision, engine, sha256) (mixer_model_info{{{MODEL}}})",
            },
            kind="table",
        ),
        Panel(
            "Builds",
            "What runs, on how many replicas: two rows during a roll-out, one after it.",
            "short",
            {"": f"count by (version, onnxruntime, python) (mixer_build_info{{{FLEET}}})"},
            kind="table",
        ),
    ],
}


def build() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, contents in ROWS.items():
        panels.append({"type": "row", "title": row, "collapsed": False, "gridPos": _place(0, y, COLUMNS, 1)})
        width, y = COLUMNS // len(contents), y + 1
        for number, panel in enumerate(contents):
            panels.append(_panel(panel) | {"gridPos": _place(number * width, y, width, panel.height)})
        y += contents[0].height
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "uid": "mixer-serving",
        "title": "Mixer serving",
        "tags": ["mixer"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                _variable("namespace", "label_values(mixer_build_info, namespace)"),
                _variable("job", 'label_values(mixer_build_info{namespace=~"$namespace"}, job)'),
                _variable("model", f"label_values(mixer_model_info{{{FLEET}}}, model)"),
            ]
        },
        "panels": panels,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    at_an_instant = panel.kind != "timeseries"
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
        | ({"instant": True, "range": False, "format": "table" if panel.kind == "table" else "time_series"}
           if at_an_instant else {})
        for number, (legend, query) in enumerate(panel.queries.items())
    ]  # fmt: skip
    defaults: dict[str, Any] = {"unit": panel.unit}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": _drawing(panel)}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.lines:
        steps = [{"color": "green", "value": None}, *({"color": "red", "value": line} for line in panel.lines)]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    body = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": defaults, "overrides": _colours() if panel.stacked else []},
        "options": options,
        "targets": targets,
    }
    if panel.kind == "table":
        hidden = {"excludeByName": {"Time": True}, "renameByName": {"Value": "replicas"}}
        body["transformations"] = [{"id": "organize", "options": hidden}]
    return body


def _drawing(panel: Panel) -> dict[str, Any]:
    drawing: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 30 if panel.stacked else 0, "showPoints": "never"}
    if panel.stacked:
        drawing["stacking"] = {"mode": "normal", "group": "A"}
    if panel.lines:
        drawing["thresholdsStyle"] = {"mode": "dashed"}
    return drawing


def _colours() -> list[dict[str, Any]]:
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/{pattern}/"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for pattern, colour in COLOURS.items()
    ]


def _variable(name: str, query: str) -> dict[str, Any]:
    """A choice of label values; All also matches series without the label, as outside Kubernetes."""
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


if __name__ == "__main__":
    DASHBOARD.write_text(json.dumps(build(), indent=1) + "\n")
