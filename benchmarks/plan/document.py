"""The plan for people: what was decided, from what, on which assumptions, and what speaks against it."""

from dataclasses import dataclass

from benchmarks.load.result import LoadResult
from benchmarks.plan.capacity import Capacity
from benchmarks.plan.component import Autoscaler, utilisation_percent
from benchmarks.plan.demand import Demand
from benchmarks.plan.fleet import Fleet
from benchmarks.plan.forecast import FACTOR, Comparison
from benchmarks.plan.measured import Measured
from benchmarks.plan.sizing import MEMORY_MARGIN, Sizing, let_in_bytes
from benchmarks.report import Row, markdown_table

_HOURS = 730  # of a month
_UNEVEN = 0.01  # the share of the images on pods beyond their capacity that is worth a warning
_UNLIKE = 0.5  # the share of a replica's predicted capacity that it holds, below which the two have little in common


@dataclass(frozen=True)
class Plan:
    """All that was found and decided."""

    demand: Demand
    measured: Measured
    capacity: Capacity
    sizing: Sizing
    comparisons: list[Comparison]
    trusted: bool  # whether the simulation agrees with what was measured
    fleets: list[Fleet]  # the first are of the plan's own pods
    autoscaler: Autoscaler


def write_document(plan: Plan, result: LoadResult, name: str, command: str) -> str:
    """Markdown."""
    warnings = _warnings(plan)
    lines = [f"# {name}", "", f"`{command}`", "", *_summary(plan), ""]
    if warnings:
        lines += ["## Mind", "", *(f"- {warning}" for warning in warnings), ""]
    lines += ["## One pod", "", *_one_pod(plan), ""]
    lines += ["## Simulated and measured", "", *_simulated(plan), ""]
    lines += ["## Many pods", "", *_many_pods(plan), ""]
    lines += ["## Assumptions", "", *(f"- {assumption}" for assumption in _assumptions(plan)), ""]
    served = plan.measured.served.model
    lines += ["## The result", "", f"- `{result.command}`, {result.date}"]
    lines += [f"- {key}: {value}" for key, value in (served | result.environment).items()]
    return "\n".join(lines) + "\n"


def _summary(plan: Plan) -> list[str]:
    demand, sizing = plan.demand, plan.sizing
    cpu = f"{sizing.cores} cores"
    memory = f"{sizing.memory_bytes // 2**20:,} MiB" if sizing.memory_bytes else "as deploy/kubernetes has it"
    rows: list[Row] = [
        {"": "images a second, p99", "value": f"{demand.rate:g}, {demand.p99_ms:g} ms"},
        {"": "pods", "value": f"{sizing.replicas:,}: {sizing.needed:,} for the peak, and {demand.spare} spare"},
        {"": "request and limit of each", "value": f"{cpu}, memory {memory}"},
        {"": "load of a pod, at most", "value": f"{sizing.per_pod:.1f} of {plan.capacity.rate:.1f} img/s"},
    ]
    if sizing.replicas > sizing.needed + demand.spare:
        rows[1]["value"] = f"{sizing.replicas}: fewer than two cannot serve through an eviction"
    if plan.autoscaler != "none":
        aims = {
            "hpa": f"{utilisation_percent(sizing)} % of the CPU request",
            "keda": f"{sizing.capacity_share:.3g} of the capacity that a replica predicts",
        }
        aim = f"{aims[plan.autoscaler]}, which is {sizing.scaling_load:.1f} img/s a pod"
        rows.append({"": f"{plan.autoscaler} aims at", "value": aim})
        rows.append({"": "pods, fewest and most", "value": f"{sizing.fewest:,} and {sizing.most:,}"})
    if sizing.price is not None:
        each = sizing.price / (demand.rate * 3600) * 1e6
        price = f"{sizing.price:,.2f} an hour, {_HOURS * sizing.price:,.0f} a month; {each:.3g} a million images"
        rows.append({"": "price, at the peak", "value": price})
    return markdown_table(rows)


def _warnings(plan: Plan) -> list[str]:
    warnings = []
    if not plan.measured.open_loop:
        warnings.append(
            "The capacity is a guess: the result has clients who wait for their answers only (`offline`), and who come "
            "by chance makes longer queues. Load it with `server` or `sweep`."
        )
    elif not plan.trusted:
        warnings.append(
            f"The simulation is off by more than a factor of {FACTOR:g} at rates up to the capacity, so its "
            "latencies are not to be trusted and left out for many pods. All other figures stand on what was measured."
        )
    elif (p99_ms := plan.fleets[0].p99_ms or 0.0) > plan.demand.p99_ms:
        warnings.append(f"Simulated, 1 % of the answers take more than {p99_ms:.0f} ms: plan with more headroom.")
    if plan.capacity.failed is None:
        warnings.append("No load that was measured is too much for a pod: it may hold more. Measure at higher rates.")
    if plan.autoscaler == "keda" and (share := plan.capacity.share_of_predicted) < _UNLIKE:
        warnings.append(
            f"A pod holds {share:.0%} of the capacity that it predicts, which is its engine's, all else left out. "
            "KEDA's aim is as uncertain as that prediction; with `--autoscaler hpa` CPU time is the aim."
        )
    uneven = [fleet for fleet in plan.fleets if fleet.pods == plan.fleets[0].pods and fleet.over_capacity > _UNEVEN]
    if uneven:
        fleet = min(uneven, key=lambda fleet: fleet.over_capacity)
        warnings.append(
            f"A Service balances connections: if clients keep {fleet.connections_per_pod} a pod open, "
            f"{fleet.over_capacity:.0%} of the images go to pods beyond their capacity. Put something in front that "
            "balances requests, or have clients open more connections and renew them."
        )
    warnings += [f"Left out as invalid: {run}." for run in plan.measured.left_out]
    return warnings


def _one_pod(plan: Plan) -> list[str]:
    step, failed = plan.capacity.step, plan.capacity.failed
    lines = [
        f"A pod of {plan.sizing.cores} cores, with {_lanes(plan)}, holds {step.rate:.1f} img/s: "
        f"p99 was {step.p99_ms:.1f} ms and {step.answered:.2%} of the images were answered."
    ]
    if failed:
        lines.append(
            f"The next load that was measured, {failed.rate:.1f} img/s, is too much: {failed.p99_ms:.1f} ms, "
            f"{failed.answered:.2%} answered."
        )
    lines.append(
        f"With {plan.demand.headroom:.0%} headroom that is {plan.sizing.per_pod:.1f} img/s a pod, and "
        f"{plan.demand.rate:g} / {plan.sizing.per_pod:.1f} is {plan.sizing.needed:,} pods, rounded up."
    )
    return lines


def _lanes(plan: Plan) -> str:
    lanes, threads = plan.measured.served.lanes, plan.measured.served.lane_threads
    return f"{lanes} {'lane' if lanes == 1 else 'lanes'} of {threads} {'thread' if threads == 1 else 'threads'}"


def _simulated(plan: Plan) -> list[str]:
    if not plan.comparisons:
        return ["Nothing to compare: no images came by chance."]
    rows: list[Row] = [
        {
            "img/s": f"{comparison.step.rate:.1f}",
            "p50 ms": _round(comparison.step.p50_ms),
            "simulated p50": _round(comparison.p50_ms),
            "p99 ms": _round(comparison.step.p99_ms),
            "simulated p99": _round(comparison.p99_ms),
            "not answered %": _round(100 * (1 - comparison.step.answered)),
            "simulated": _round(100 * comparison.refused),
            "passes stretched": _round(comparison.step.pass_stretch),
            f"within {FACTOR:g}x": comparison.agrees,
        }
        for comparison in plan.comparisons
    ]
    verdict = (
        "At every rate up to a pod's capacity both agree to that factor."
        if plan.trusted
        else "They do not agree at every rate up to a pod's capacity: the simulation is not to be trusted."
    )
    return [*markdown_table(rows), "", verdict]


def _many_pods(plan: Plan) -> list[str]:
    rows: list[Row] = []
    for fleet in plan.fleets:
        row: Row = {
            "pods": fleet.pods,
            "connections": f"{fleet.connections_per_pod} a pod" if fleet.connections_per_pod else "balanced by request",
            "busiest pod, img/s": _round(fleet.busiest),
            "images on pods beyond capacity %": _round(100 * fleet.over_capacity),
        }
        if plan.trusted:
            # Beyond a pod's capacity nobody has looked whether the simulation is right.
            within = fleet.over_capacity == 0
            row["simulated p99 ms"] = _round(fleet.p99_ms) if within else None
            row["refused %"] = _round(_percent(fleet.refused)) if within else None
        rows.append(row)
    text = f"With {plan.sizing.per_pod:.1f} img/s a pod in the mean, the most that the plan gives it:"
    return [text, "", *markdown_table(rows)]


def _assumptions(plan: Plan) -> list[str]:
    lines = [
        "Nodes are like the machine that was measured, images and model those of the load; the settings as well. "
        "If the load generator ran on the pod's cores, a pod holds more than this.",
        f"A pod's capacity is the highest measured rate below the first that misses {plan.demand.p99_ms:g} ms at p99 "
        "or leaves more than 1 % unanswered; nothing is interpolated. Latency is measured from when an image should "
        "have been sent: the network between clients and pods comes on top.",
        "Pods share nothing, so that their rates add up. Headroom is for bursts, for uneven balancing and for the "
        "time that a new pod takes to start; spare pods are for nodes that go.",
        f"Memory is the highest that was seen and {MEMORY_MARGIN:.0%}, and the "
        f"{let_in_bytes(plan.measured.served.lanes) / 2**20:,.0f} MiB of bodies, and of the largest image in every "
        "lane, that the default settings let in. A model of hundreds of megabytes takes several times its "
        "weights while it starts, which a load does not see.",
        "In the simulation passes take what they took at the service's start, stretched as the load was seen to "
        "stretch them; decoding takes what an image was seen to take, HTTP the CPU time of the front. "
        "None of that is fitted to a latency of the whole. Other work on the node is not in it.",
        "Behind a Service each connection goes to a pod by chance and stays; all are equally busy.",
    ]
    if plan.autoscaler != "none":
        lines.append(
            "The autoscaler's aim is the load of a pod when all planned pods, the spare ones too, share the peak, "
            "but at least half of what a pod is given. "
            "It follows the demand; what comes faster than a pod starts has to fit into the headroom."
        )
    return lines


def _percent(share: float | None) -> float | None:
    return 100 * share if share is not None else None


def _round(value: float | None) -> float | None:
    return round(value, 1 if value < 1000 else 0) if value is not None else None
