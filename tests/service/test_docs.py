"""docs/api.md, docs/images.md and docs/security.md say what the code does."""

import re
from pathlib import Path

import pytest

from service.api.api_keys import ApiKeys
from service.api.schemas import ClassifyResponse, ImageBody, ModelReference, PredictionBody
from service.images.formats import FORMATS
from service.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
IMAGES = (ROOT / "docs" / "images.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()


def test_every_reason_for_refusing_an_image_is_documented_and_there_is_no_other() -> None:
    used = {"empty_body", "body_bytes"}  # of the request, before there is an image
    for path in (ROOT / "service" / "images").glob("*.py"):
        used |= set(re.findall(r'reason="(\w+)"', path.read_text()))
    rows = [row.split("|") for row in IMAGES.splitlines() if re.match(r"\| 4\d\d ", row)]
    assert {reason for row in rows for reason in re.findall(r"`(\w+)`", row[3])} == used


def test_every_field_of_an_answer_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", API.partition("\nThe answer has ")[2].partition("\n\n")[0]))
    bodies = (ClassifyResponse, ModelReference, PredictionBody, ImageBody)
    stages = {"receive", "decode", "queue", "infer", "post", "total"}
    assert named == stages.union(*(body.model_fields for body in bodies))


def test_every_accepted_format_is_named() -> None:
    named = IMAGES.partition("## What is accepted")[2].partition("|")[0].upper()
    assert all(format_ in named for format_ in FORMATS)


def test_every_test_that_it_points_to_exists() -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", SECURITY + IMAGES)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_sample_keys_are_accepted(tmp_path: Path) -> None:
    (sample,) = re.findall(r"```\n(# printf.*?)```", SECURITY, re.DOTALL)
    (tmp_path / "keys").write_text(sample)
    metrics = Metrics()
    ApiKeys(tmp_path / "keys", metrics)
    outcome = {"key": "mobile-app", "outcome": "ok"}
    assert metrics.registry.get_sample_value("mixer_key_requests_total", outcome) == pytest.approx(0)
