"""SECURITY.md points to what there is."""

import re

from tests.deploy.docker import ROOT

POLICY = (ROOT / "SECURITY.md").read_text()


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", POLICY)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", POLICY)) <= targets
