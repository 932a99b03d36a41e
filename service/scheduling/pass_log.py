"""The last batches, for whoever wants to know why one was as it was."""

from collections import deque
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class PassRecord:
    """One batch and its pass: times in ms, `at` in seconds of the event loop's clock."""

    at: float
    model: str
    size: int  # images that were passed
    reason: str
    left_waiting: int
    dropped: int  # expired or abandoned tickets that were found while the batch was frozen
    waited_ms: float  # the longest wait in the queue
    forecast_ms: float  # of the batch
    batch_ms: float  # decoding and pass
    pass_ms: float
    wide: bool  # on all cores, because it was alone


class PassLog:
    """A ring of the last 256 batches."""

    def __init__(self) -> None:
        self._records: deque[PassRecord] = deque(maxlen=256)

    def add(self, record: PassRecord) -> None:
        """Remember a batch that is answered."""
        self._records.append(record)

    def newest_first(self) -> list[dict[str, object]]:
        """The records as JSON objects."""
        return [asdict(record) for record in reversed(self._records)]
