"""Results as files: JSON for machines, Markdown tables and a picture for people."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# Where the repository keeps them; installed, where the command was typed.
_KEPT = Path(__file__).parent / "results"
RESULTS = _KEPT if _KEPT.is_dir() else Path("results")

Row = dict[str, object]


@dataclass(frozen=True)
class Result:
    """What a benchmark measured: tables by name ("rows" is the first), how to read them, and a picture as PNG."""

    tables: dict[str, list[Row]]
    notes: str = ""
    png: bytes | None = None


def write_report(out: Path, name: str, command: str, environment: dict[str, object], result: Result) -> Path:
    """Write <out>/<name>.json, .md and, if there is a picture, .png; returns the second."""
    date = datetime.now(UTC).date().isoformat()
    content = {"schema_version": 1, "command": command, "date": date, "environment": environment, **result.tables}
    return write_files(out, name, command, date, environment, result, json.dumps(content, indent=2))


def write_files(
    out: Path, name: str, command: str, date: str, environment: dict[str, object], result: Result, content: str
) -> Path:
    """Write <out>/<name>.json with this content, .md and, if there is a picture, .png; returns the second."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(content + "\n")
    lines = [f"# {name}", "", f"`{command}`, {date}", ""]
    if result.png:
        (out / f"{name}.png").write_bytes(result.png)
        lines += [f"![{name}]({name}.png)", ""]
    lines += [*markdown(result.tables), ""]
    lines += [result.notes, ""] if result.notes else []
    lines += [f"- {key}: {_plain(value)}" for key, value in environment.items()]
    path = out / f"{name}.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def markdown(tables: dict[str, list[Row]]) -> list[str]:
    """Lines of all tables that have rows, each but the first under its name."""
    lines: list[str] = []
    for name, rows in tables.items():
        if rows:
            lines += (["", f"## {name}", ""] if lines else []) + markdown_table(rows)
    return lines


def markdown_table(rows: list[Row]) -> list[str]:
    """Lines of a table with the first row's keys as columns."""
    columns = list(rows[0])
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_plain(row[column]) for column in columns) for row in rows]
    return [f"| {line} |" for line in lines]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)
