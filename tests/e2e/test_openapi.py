"""Every operation of /openapi.json, asked by schemathesis whatever the document allows and forbids."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ServiceProcess, running_service

# That a body is of the right type does not make it an image.
NOT_PROMISED = "positive_data_acceptance"
EXISTING = """\
[parameters]
"path.model" = "digits"
"path.version" = "1"
"path.model_name" = "digits"
"path.model_version" = "1"
"query.model" = "digits"
"query.version" = "1"
"""


KEY = "open sesame"


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service() as service:
        yield service


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(hashlib.sha256(KEY.encode()).hexdigest())
    with running_service("--api-keys-file", str(keys)) as service:
        yield service


@pytest.mark.parametrize("config", [EXISTING, ""], ids=["of the model that is there", "of any model"])
def test_answers_are_those_that_the_document_promises(service: ServiceProcess, config: str, tmp_path: Path) -> None:
    """No 500, no status or body that is not in the document, no answer later than 10 s."""
    ask_everything(service, config, tmp_path)


def test_keys_are_asked_for_where_the_document_says_so(guarded: ServiceProcess, tmp_path: Path) -> None:
    """The same with a key, and that without it nothing is answered."""
    ask_everything(guarded, EXISTING, tmp_path, "--header", f"X-Api-Key: {KEY}")


def ask_everything(service: ServiceProcess, config: str, folder: Path, *more: str) -> None:
    file = folder / "schemathesis.toml"
    file.write_text(config)
    options = ["--checks", "all", "--exclude-checks", NOT_PROMISED, "--phases", "examples,coverage,fuzzing", *more]
    limits = ["--max-examples", "15", "--request-timeout", "10", "--seed", "1", "--generation-database", "none"]
    result = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run", f"{service.url}/openapi.json",
         *options, *limits, "--suppress-health-check", "all", "--no-color"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "generated" in result.stdout
