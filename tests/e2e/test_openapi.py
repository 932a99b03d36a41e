"""Every operation of /openapi.json, asked by schemathesis whatever the document allows, and by a generated client."""

import base64
import hashlib
import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import GOLDEN, ServiceProcess, running_service

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


def test_a_generated_client_has_every_operation_and_is_answered(
    service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """openapi-python-client exits with 1 for a warning, which each operation is that it leaves out."""
    pytest.importorskip("openapi_python_client")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"]
    document = f"{service.url}/openapi.json"
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []")  # the source is not formatted
    result = subprocess.run(
        [*command, "--url", document, "--config", str(config), "--output-path", str(tmp_path / "mixer_client")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.syspath_prepend(tmp_path)
    paths = httpx.get(document).json()["paths"]
    for operation in [operation for path in paths.values() for operation in path.values()]:
        tag = operation["tags"][0].lower().replace(" ", "_")
        assert (tmp_path / "mixer_client" / "api" / tag / f"{operation['operationId']}.py").exists()

    types, bodies = importlib.import_module("mixer_client.types"), importlib.import_module("mixer_client.models")
    client = importlib.import_module("mixer_client").Client(service.url)
    request.addfinalizer(client.get_httpx_client().close)  # or its socket is a warning in the test that comes next

    def ask(operation: str, *path: str, **given: Any) -> Any:
        return importlib.import_module(f"mixer_client.api.{operation}").sync(*path, client=client, **given)

    seven = (GOLDEN / "digit-7.png").read_bytes()
    in_base64 = base64.b64encode(seven).decode()
    tensor = bodies.InputTensor(name="image_bytes", shape=[1], datatype="BYTES", data=[in_base64])
    file, form = types.File(io.BytesIO(seven)), bodies.ImageForm([types.File(io.BytesIO(seven))])
    for body in (file, form, bodies.OneImage(in_base64), bodies.SeveralImages([in_base64] * 2)):
        answer = ask("classification.classify", body=body, top_k=1)
        for each in getattr(answer, "results", [answer]):
            assert each.predictions[0].label == "7"
    assert ask("classification.classify", body=types.File(io.BytesIO(b"x"))).error.code == "unsupported_image"
    ip = "open_inference_protocol"
    assert ask(f"{ip}.model_version_metadata", "digits", "1").versions == ["1"]
    assert ask(f"{ip}.model_metadata", "none").error
    assert ask(f"{ip}.model_infer", "digits", body=bodies.InferRequest(inputs=[tensor])).outputs[0].shape == [1, 10]
    assert ask("model_repository.repository_index")[0].state == "READY"
