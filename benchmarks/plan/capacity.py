"""What one pod holds: the highest measured rate below the first at which it misses the demand."""

from dataclasses import dataclass

from benchmarks.plan.demand import PlanError
from benchmarks.plan.measured import Measured, Step
from service.engines.curve import best_rate

_ANSWERED = 0.99  # the least share of the images: the others, refused in time, miss the objective as well


@dataclass(frozen=True)
class Capacity:
    """Of one pod."""

    step: Step  # the rate that is trusted
    failed: Step | None  # the lowest that does not hold, None if every one that was measured does
    predicted: float  # images a second, by the passes at the service's start

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.step.rate

    @property
    def share_of_predicted(self) -> float:
        """How much of what a replica says of itself it holds."""
        return self.rate / self.predicted


def find_capacity(measured: Measured, p99_ms: float) -> Capacity:
    """Rates whose p99 is not known say nothing. Raises PlanError if no rate holds."""
    one_pass = min(measured.served.pass_seconds.values()) * 1000
    if p99_ms <= one_pass:
        raise PlanError(f"--p99-ms {p99_ms:g}: one pass over one image takes {one_pass:.2g} ms already")
    predicted = measured.served.lanes * best_rate(measured.served.pass_seconds)
    held = None
    for step in measured.steps:
        if step.p99_ms is None:
            continue
        if step.p99_ms > p99_ms or step.answered < _ANSWERED:
            if held is None:
                raise PlanError(
                    f"--p99-ms {p99_ms:g}: no measured rate holds it, the lowest, {step.rate:.1f} img/s, "
                    f"took {step.p99_ms:.3g} ms at p99 and answered {step.answered:.1%}; lower ones: "
                    f"load server --slo-ms {p99_ms:g}, or load sweep"
                )
            return Capacity(held, step, predicted)
        held = step
    if held is None:
        raise PlanError("no run of the result has images enough to know its p99: load it for longer (--seconds)")
    return Capacity(held, None, predicted)
