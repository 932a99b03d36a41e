"""Say what was assumed in reading a checkpoint."""

import sys
from collections.abc import Iterable


def tell(notes: Iterable[str]) -> None:
    """A line a note, on standard error."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
