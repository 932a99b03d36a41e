"""A training run's log: one JSON object a line, one line an evaluation; the first also tells what the run is."""

import json
from pathlib import Path
from typing import Any

from model_export.training.atomic import replacing

Line = dict[str, Any]


def log_of(out: Path) -> Path:
    """Beside the output: OUT.jsonl."""
    return out.with_name(f"{out.name}.jsonl")


def append_line(path: Path, line: Line) -> None:
    """Add an evaluation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def keep_lines(path: Path, count: int) -> None:
    """Drop all but the first `count` lines: a killed run may have logged an evaluation that it has to repeat."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with replacing(path) as partial:
            partial.write_text("".join(lines[:count]), encoding="utf-8")
