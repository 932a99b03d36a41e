"""Training runs side by side: what each was, how long an epoch took, and how well it ended."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from model_export.training.run_log import Line, log_of
from model_export.training.snapshot import TrainingError

_OF_THE_RUN = ("model", "data", "recipe", "optimizer", "learning_rate", "clip", "dropout", "crop", "batch", "precision")
_COLUMNS = (*_OF_THE_RUN, "epochs", "steps", "s/epoch", "img/s", "loss", "val top-1", "test top-1")


def table_of(runs: Sequence[Path]) -> str:
    """A Markdown table, a row a run; columns in which all runs are alike stand above it. Raises TrainingError."""
    rows = [_row(path if path.suffix == ".jsonl" else log_of(path)) for path in runs]
    alike = [name for name in _OF_THE_RUN if len(rows) > 1 and len({row[name] for row in rows}) == 1]
    columns = [name for name in _COLUMNS if name not in alike and any(row[name] for row in rows)]
    cells = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    shared = ", ".join(f"{name} {rows[0][name]}" for name in alike)
    return f"All runs: {shared}.\n\n{table}" if shared else table


def _row(path: Path) -> dict[str, str]:
    try:
        lines: list[Line] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        told = lines[0]["run"] | {"recipe": lines[0]["run"]["name"]}
        trained = [line for line in lines if "loss" in line]
        last = trained[-1]
        test = lines[-1].get("test_top1")
        rate = median(line["images_per_second"] for line in trained)
        return {
            **{name: str(told[name]) for name in _OF_THE_RUN},
            "epochs": f"{last['epoch']:g}",
            "steps": str(last["step"]),
            "s/epoch": f"{median(line['seconds_per_epoch'] for line in trained):.1f}",
            "img/s": f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}",
            "loss": f"{last['loss']:.3f}",
            "val top-1": f"{last['val_top1']:.2%}" if "val_top1" in last else "",
            "test top-1": "" if test is None else f"{test:.2%}",
        }
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise TrainingError(f"{path}: is no log of a training run: {error}") from None
