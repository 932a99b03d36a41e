"""docs/checkpoints.md says what the code does."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from model_export.__main__ import main
from model_export.checkpoints.description import layers_of
from model_export.checkpoints.layouts import LAYOUTS
from model_export.variants import config_of

PAGE = (Path(__file__).parent.parent.parent / "docs" / "checkpoints.md").read_text()


def rows(section: str) -> list[list[str]]:
    table = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_layouts() -> None:
    documented = {row[0].strip("`"): row[2:5] for row in rows("What is accepted")}
    assert documented.keys() == {layout.name for layout in LAYOUTS}
    for layout in LAYOUTS[1:]:
        gelu, eps, resize = documented[layout.name]
        assert (gelu, float(eps)) == (layout.gelu, layout.layer_norm_eps)
        assert resize.startswith(f"256, {layout.interpolation}")


@pytest.mark.parametrize("row", rows("The variants"), ids=lambda row: row[0])
def test_the_variants(row: list[str]) -> None:
    variant, figures = row[0].split()[0], list(map(float, row[1:]))
    config = config_of(variant, classes=1000)
    dimensions = [
        config.layers,
        config.patch,
        config.hidden,
        config.tokens,
        config.channels_hidden,
        config.tokens_hidden,
    ]
    assert figures[:6] == dimensions
    parameters = [replace(config, classes=classes).parameters for classes in (0, 1000, 21843)]
    macs = sum(layer.macs for layer in layers_of(config))
    assert figures[6:] == [*(round(count / 1e6, 2) for count in parameters), round(macs / 1e9, 2)]


@pytest.mark.parametrize("row", rows("The checkpoints"), ids=lambda row: row[0])
def test_the_commands_are_understood(row: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to the source, which is not here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (command,) = re.findall(r"^`mixer-export (.*)`$", row[-1])
    with pytest.raises(SystemExit, match=r"no such file|not in the local cache"):
        main(shlex.split(command))
