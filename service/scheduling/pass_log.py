"""The last scheduling decisions, for whoever wants to know why a pass was as it was."""

from collections import deque
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class PassRecord:
    """One pass: times in ms, `at` in seconds of the event loop's clock."""

    at: float
    model: str
    size: int
    reason: str
    left_waiting: int
    dropped: int  # expired or abandoned tickets that were found while the batch was frozen
    waited_ms: float  # the longest wait in the queue
    predicted_ms: float
    actual_ms: float
    failed: bool


class PassLog:
    """A ring of the last 256 passes."""

    def __init__(self) -> None:
        self._records: deque[PassRecord] = deque(maxlen=256)

    def add(self, record: PassRecord) -> None:
        """Remember a finished pass."""
        self._records.append(record)

    def newest_first(self) -> list[dict[str, object]]:
        """The records as JSON objects."""
        return [asdict(record) for record in reversed(self._records)]
