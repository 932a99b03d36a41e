"""From one pod's capacity to pods, what each asks for, and what autoscalers aim at."""

import math
from dataclasses import dataclass

from benchmarks.plan.capacity import Capacity
from benchmarks.plan.demand import Demand, PlanError
from benchmarks.plan.measured import Measured
from service.settings import Settings

MEMORY_MARGIN = 0.25  # of the peak that was seen
PIXEL_BYTES = 16  # of the worst format, RGBA (docs/kubernetes.md, "Size"), of the image that a lane decodes
HIGHEST_UTILISATION = 0.9  # beyond it an autoscaler sees a pod's overload no sooner than its clients do
MOST = 1.5  # times the pods of the peak is what an autoscaler may start
_LEAST_AIM = 0.5  # of what a pod is given: a lower aim would follow every breath of the load
_FEWEST = 2  # pods: one has to serve while the other is evicted (base/poddisruptionbudget.yaml)
_CLUSTER = 150_000  # pods (kubernetes.io/docs/setup/best-practices/cluster-large)
_GRAIN = 128 * 2**20  # bytes: memory is rounded up to it


@dataclass(frozen=True)
class Sizing:
    """What Kubernetes is told."""

    per_pod: float  # images a second that a pod is given at most
    needed: int  # pods at the peak
    replicas: int  # with those that may be missing
    cores: int
    memory_bytes: int | None  # None: not known, as the base has it
    scaling_load: float  # images a second and pod that an autoscaler aims at
    fewest: int
    most: int
    cpu_utilisation: float | None  # at that load, of the request; None: not known
    capacity_share: float  # that load over the capacity that a replica predicts for itself
    price: float | None  # of an hour at the peak


def size(measured: Measured, capacity: Capacity, demand: Demand) -> Sizing:
    """Raises PlanError if the demand is more than a cluster can hold."""
    per_pod = capacity.rate * (1 - demand.headroom)
    needed = math.ceil(demand.rate / per_pod)
    replicas = max(_FEWEST, needed + demand.spare)
    if replicas > _CLUSTER:
        raise PlanError(f"--rate {demand.rate:g}: takes {replicas:,} pods, and a cluster holds {_CLUSTER:,}")
    # With this aim an autoscaler runs the spare pods, too, when the peak is reached.
    scaling_load = max(demand.rate / (needed + demand.spare), _LEAST_AIM * per_pod)
    cores = int(measured.served.cores)
    used = measured.at(scaling_load, lambda step: step.cores_used, at_rest=0.0)
    return Sizing(
        per_pod=per_pod,
        needed=needed,
        replicas=replicas,
        cores=cores,
        memory_bytes=_memory(measured),
        scaling_load=scaling_load,
        fewest=max(_FEWEST, 1 + demand.spare),
        most=math.ceil(MOST * replicas),
        cpu_utilisation=min(HIGHEST_UTILISATION, used / cores) if used else None,
        capacity_share=scaling_load / capacity.predicted,
        price=replicas * cores * demand.core_price if demand.core_price is not None else None,
    )


def let_in_bytes(lanes: int) -> int:
    """What the service's default settings let in at most, in memory, whatever the load was."""
    fields = Settings.model_fields
    return int(fields["max_inflight_bytes"].default + lanes * PIXEL_BYTES * fields["max_pixels"].default)


def _memory(measured: Measured) -> int | None:
    peak = measured.peak_memory_bytes
    if peak is None:
        return None
    return math.ceil(((1 + MEMORY_MARGIN) * peak + let_in_bytes(measured.served.lanes)) / _GRAIN) * _GRAIN
