"""What is wanted of the deployment."""

import math
from dataclasses import dataclass


class PlanError(ValueError):
    """There is no plan for this result and demand; the message is one line that says why."""


@dataclass(frozen=True)
class Demand:
    """Checked: raises PlanError, with the option's name."""

    rate: float  # images a second at the peak
    p99_ms: float = 200.0  # 99 % of the answers take no longer
    headroom: float = 0.3  # the share of a pod's capacity that the peak leaves unused
    spare: int = 1  # pods that may be missing at the peak
    core_price: float | None = None  # of one core for an hour

    def __post_init__(self) -> None:
        for option, value in (("--rate", self.rate), ("--p99-ms", self.p99_ms)):
            if not 0 < value < math.inf:
                raise PlanError(f"{option} {value:g}: has to be more than 0")
        if not 0 <= self.headroom < 1:
            raise PlanError(f"--headroom {self.headroom:g}: is a share, from 0 to less than 1")
        if self.spare < 0:
            raise PlanError(f"--spare {self.spare}: has to be 0 or more")
        if self.core_price is not None and not 0 <= self.core_price < math.inf:
            raise PlanError(f"--core-price {self.core_price:g}: has to be 0 or more")
