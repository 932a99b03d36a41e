"""What the README shows is what a reader gets."""

import json
import re
import subprocess

import pytest

from service.settings import Settings
from tests.e2e.processes import ROOT, running_service

README = (ROOT / "README.md").read_text()


def test_the_sample_curl_gives_the_answer_shown() -> None:
    (command,) = re.findall(r"^curl --data-binary .*$", README, re.MULTILINE)
    (shown,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    with running_service() as service:
        line = command.replace("localhost:8000", f"127.0.0.1:{service.port}")
        result = subprocess.run(line.split(), cwd=ROOT, capture_output=True, text=True, check=True)
    answer, expected = json.loads(result.stdout), json.loads(shown)
    assert answer.keys() == expected.keys()
    assert answer["timing_ms"].keys() == expected["timing_ms"].keys()
    assert (answer["model"], answer["image"]) == (expected["model"], expected["image"])
    for prediction, promised in zip(answer["predictions"], expected["predictions"], strict=True):
        # int8 rounds as engine and CPU do
        assert prediction["probability"] == pytest.approx(promised["probability"], abs=0.01)
        assert prediction["label"] == promised["label"]


def test_the_settings_table_names_every_setting() -> None:
    table = (ROOT / "docs" / "settings.md").read_text()
    named = {name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", cell)}
    assert {name.lower() for name in named} == Settings.model_fields.keys()


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
