"""The examples of docs/offline.md as they stand there."""

import os
import re
import subprocess
import sys

import pytest

from tests.e2e.processes import ROOT

TEXT = (ROOT / "docs" / "offline.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_a_python_example_prints_what_it_says(code: str) -> None:
    (promised,) = re.findall(r"print\(.*\)  # (.*)$", code, re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.stdout, ended.stderr, ended.returncode) == (f"{promised}\n", "", 0)
