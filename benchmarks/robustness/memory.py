"""A server's memory over time, sampled at even steps: has it grown?"""

import statistics
from collections.abc import Sequence

from benchmarks.report import Row


def memory_growth(sizes: Sequence[float]) -> float | None:
    """Median of the last tenth of the samples over that of the second tenth, less 1; None of fewer than ten."""
    tenth = len(sizes) // 10
    if not tenth:
        return None
    return statistics.median(sizes[-tenth:]) / statistics.median(sizes[tenth : 2 * tenth]) - 1


def memory_rows(sizes: Sequence[float]) -> list[Row]:
    """About twenty of the samples, of one a second."""
    step = max(1, len(sizes) // 20)
    return [{"second": second, "MiB": round(size / 2**20, 1)} for second, size in list(enumerate(sizes))[::step]]
