"""Results as files: JSON for machines, a Markdown table for people."""

import json
from datetime import UTC, datetime
from pathlib import Path

Row = dict[str, object]


def write_report(out: Path, name: str, command: str, environment: dict[str, object], rows: list[Row]) -> Path:
    """Write <out>/<name>.json and .md; returns the latter."""
    out.mkdir(parents=True, exist_ok=True)
    date = datetime.now(UTC).date().isoformat()
    result = {"schema_version": 1, "command": command, "date": date, "environment": environment, "rows": rows}
    (out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [f"# {name}", "", f"`{command}`, {date}", "", *markdown_table(rows), ""]
    lines += [f"- {key}: {_plain(value)}" for key, value in environment.items()]
    path = out / f"{name}.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def markdown_table(rows: list[Row]) -> list[str]:
    """Lines of a table with the first row's keys as columns."""
    columns = list(rows[0])
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_plain(row[column]) for column in columns) for row in rows]
    return [f"| {line} |" for line in lines]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
