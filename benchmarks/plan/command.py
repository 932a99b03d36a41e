"""`python -m benchmarks plan RESULT.json --rate 500`: what Kubernetes should be told."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.load.result import LoadResult, read_result
from benchmarks.plan.alerts import operators_rule, rules
from benchmarks.plan.capacity import find_capacity
from benchmarks.plan.component import render
from benchmarks.plan.demand import Demand, PlanError
from benchmarks.plan.document import Plan, write_document
from benchmarks.plan.fleet import load_fleet
from benchmarks.plan.forecast import Simulation, compare, is_trusted
from benchmarks.plan.measured import read_measured
from benchmarks.plan.sizing import size
from benchmarks.report import RESULTS

_FLEETS = (100, 1000, 5000)  # pods, beside the plan's own; the last stand for more as well
_CONNECTIONS = (None, 100, 10)  # of the clients, a pod


def add_command(commands: Any) -> None:
    """Add `plan` to the commands of `python -m benchmarks`."""
    plan = commands.add_parser("plan")
    plan.set_defaults(run=_run)
    add = plan.add_argument
    add("result", type=Path, metavar="RESULT.json", help="of `load`, with `server` or `sweep` among its scenarios")
    add("--target", help="of the result, where it has several")
    add("--rate", type=float, required=True, help="images/s at the peak")
    add("--p99-ms", type=float, default=Demand.p99_ms, help="default: %(default)s")
    add("--headroom", type=float, default=Demand.headroom, help="share of a pod left unused; default: %(default)s")
    add("--spare", type=int, default=Demand.spare, help="pods that may be missing; default: %(default)s")
    add("--core-price", type=float, help="of a core for an hour, in your currency")
    add("--autoscaler", default="none", choices=("none", "hpa", "keda"), help="of the overlay; default: %(default)s")
    add("--prometheus-operator", action="store_true", help="bring the alerts along as a PrometheusRule")
    add("--seed", type=int, default=0, help="of the simulation; default: %(default)s")
    add("--name", default="plan", help="of the component's folder in --out; default: %(default)s")
    add("--out", type=Path, default=RESULTS, help="default: %(default)s")


def _run(options: argparse.Namespace, arguments: list[str]) -> Path:
    """Write the component; its README.md's path. Exits with one line where there is no plan."""
    try:
        result = read_result(options.result)
        plan = make_plan(options, result)
        return _write(options, plan, result, shlex.join(["python", "-m", "benchmarks", *arguments]))
    except (ValueError, OSError) as error:
        sys.exit(f"mixer-bench plan: {error}")


def make_plan(options: argparse.Namespace, result: LoadResult) -> Plan:
    """Decide. Raises PlanError."""
    demand = Demand(options.rate, options.p99_ms, options.headroom, options.spare, options.core_price)
    measured = read_measured(result, options.target)
    capacity = find_capacity(measured, demand.p99_ms)
    sizing = size(measured, capacity, demand)
    if options.autoscaler == "hpa" and sizing.cpu_utilisation is None:
        raise PlanError("--autoscaler hpa: the result has no CPU seconds of the server: load it with --pid")
    simulation = Simulation(measured, options.seed)
    comparisons = compare(simulation, measured)
    trusted = simulation if is_trusted(comparisons, capacity) else None
    fleets = [
        load_fleet(pods, sizing.per_pod, capacity.rate, connections, trusted, options.seed)
        for pods in dict.fromkeys((min(sizing.replicas, max(_FLEETS)), *_FLEETS))
        for connections in _CONNECTIONS
    ]
    return Plan(demand, measured, capacity, sizing, comparisons, trusted is not None, fleets, options.autoscaler)


def _write(options: argparse.Namespace, plan: Plan, result: LoadResult, command: str) -> Path:
    folder: Path = options.out / options.name
    folder.mkdir(parents=True, exist_ok=True)
    alerts = rules(plan.measured.served.model["model"], plan.demand, plan.capacity, plan.sizing)
    (folder / "alerts.yml").write_text(alerts)
    brought = []
    if options.prometheus_operator:
        (folder / "prometheusrule.yaml").write_text(operators_rule(alerts))
        brought.append("prometheusrule.yaml")
    (folder / "kustomization.yaml").write_text(render(plan.sizing, plan.autoscaler, command, brought))
    path = folder / "README.md"
    path.write_text(write_document(plan, result, options.name, command))
    return path
