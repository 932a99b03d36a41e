"""docs/settings.md and README.md say what there is."""

import re

from service.settings import Settings
from tests.e2e.processes import ROOT


def test_the_settings_table_names_every_setting() -> None:
    table = (ROOT / "docs" / "settings.md").read_text()
    named = {name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", cell)}
    assert {name.lower() for name in named} == Settings.model_fields.keys()
