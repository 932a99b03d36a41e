"""The wheel, built from a checkout with models of its user's, installed and used from an empty folder."""

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import httpx
import pytest

from service import __version__
from tests.e2e.processes import GOLDEN, ROOT

# What only extras bring, as it is imported.
EXTRAS = ("aiohttp", "httpx", "huggingface_hub", "matplotlib", "onnx", "onnxscript", "psutil")
EXTRAS += ("safetensors", "scipy", "sklearn", "torch", "tqdm")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, source)
    for folder in ("service", "model_export", "benchmarks", "models"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for exported in ("mine/1", "digits/2"):
        shutil.copytree(GOLDEN.parent, source / "models" / exported)
    # Without isolation, which would fetch what builds it.
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(source / "dist"), str(source)], check=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@dataclass
class Installed:
    """The wheel in an environment of its own, which sees the libraries of this one; `folder` is empty."""

    programs: Path
    folder: Path
    without: Path  # modules that are missing as long as this is on the path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.programs / arguments[0]), *arguments[1:]]

    def environment(self, *, extras: bool) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MIXER_", "PYTHON"))}
        return kept if extras else kept | {"PYTHONPATH": str(self.without)}

    def run(self, *arguments: str, extras: bool = False) -> subprocess.CompletedProcess[str]:
        environment = self.environment(extras=extras)
        command = self.command(*arguments)
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = (venv / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


@pytest.fixture
def installed(programs: Path, tmp_path: Path) -> Installed:
    folder, without = tmp_path / "empty", tmp_path / "without"
    folder.mkdir()
    without.mkdir()
    for name in EXTRAS:
        (without / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n")
    return Installed(programs, folder, without)


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"mixer_serving-{__version__}.dist-info/METADATA"))


def test_of_the_models_it_carries_the_embedded_one_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    embedded = {str(path.relative_to(ROOT)) for path in GOLDEN.parent.rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("models/")} == embedded
    packages = {name.partition("/")[0] for name in names}
    assert packages == {"service", "model_export", "benchmarks", "models", f"mixer_serving-{__version__}.dist-info"}
    assert not [name for name in names if "results" in name]


def test_it_is_typed_and_says_where_it_comes_from(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert {"service/py.typed", "model_export/py.typed", "benchmarks/py.typed"} <= set(archive.namelist())
    told = metadata(wheel)
    assert told["Version"] == __version__
    urls = [url.partition(",")[0] for url in told.get_all("Project-URL", [])]
    assert {"Homepage", "Documentation", "Changelog"} <= set(urls)


def test_what_is_exported_is_no_change_of_the_repository() -> None:
    def ignored(path: str) -> bool:
        command = ["git", "check-ignore", "--quiet", "--no-index", path]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    assert ignored("models/mine/1/model.onnx")
    assert ignored("models/digits/2/manifest.json")
    assert not ignored("models/digits/1/model.onnx")
    assert not ignored("service/models/registry.py")


@pytest.mark.parametrize("program", ["mixer-serve", "mixer-classify", "mixer-bench", "mixer-export"])
def test_every_command_says_its_version_and_helps_without_any_extra(installed: Installed, program: str) -> None:
    version = installed.run(program, "--version")
    assert (version.returncode, version.stdout, version.stderr) == (0, f"{program} {__version__}\n", "")
    helped = installed.run(program, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"usage: {program} ")


def test_it_serves_the_embedded_model_from_an_empty_folder(installed: Installed) -> None:
    flags = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--drain-seconds", "0"]
    command, environment = installed.command("mixer-serve", *flags), installed.environment(extras=False)
    with subprocess.Popen(command, cwd=installed.folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while not (line := json.loads(process.stderr.readline()))["message"].startswith("listening"):
                pass
            with httpx.Client(base_url=f"http://127.0.0.1:{line['port']}", timeout=60) as client:
                answer = client.post("/v1/classify", content=(GOLDEN / "digit-7.png").read_bytes()).json()
                assert answer["predictions"][0]["label"] == "7"
                assert "Mixer" in client.get("/").text
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_it_classifies_with_the_embedded_model_from_an_empty_folder(installed: Installed) -> None:
    for digit in (3, 7):
        shutil.copy(GOLDEN / f"digit-{digit}.png", installed.folder)
    ended = installed.run("mixer-classify", ".", "--csv", "answers.csv", "--top-k", "1")
    assert ended.returncode == 0, ended.stderr
    _, *rows = csv.reader((installed.folder / "answers.csv").read_text().splitlines())
    assert [(row[0], row[4]) for row in rows] == [("digit-3.png", "3"), ("digit-7.png", "7")]
    program = (
        "from service import Classifier; print(Classifier.load('digits').classify('digit-7.png').predictions[0].label)"
    )
    assert installed.run("python", "-c", program).stdout == "7\n"


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_while_its_libraries_are_loaded_ends_it_with_0(installed: Installed, number: str) -> None:
    send = f"import os, signal\nos.kill(os.getpid(), signal.{number})\nwhile True: signal.pause()\n"
    (installed.without / "uvicorn.py").write_text(send)
    assert installed.run("mixer-serve", "--port", "0", "--metrics-port", "0").returncode == 0


@pytest.mark.parametrize("command", ["load", "cross-check", "plan"])
def test_a_missing_extra_is_one_line_that_names_it(installed: Installed, command: str) -> None:
    ended = installed.run("mixer-bench", command)
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"mixer-bench {command} needs ")
    assert line.endswith(": pip install 'mixer-serving[bench]', or in a checkout make setup")
    assert ended.returncode == 1


def test_the_client_without_its_extra_names_it(installed: Installed) -> None:
    ended = installed.run("python", "-c", "import service.client")
    told = "service.client needs httpx: pip install 'httpx>=0.28'"
    assert ended.stderr.splitlines()[-1] == f"ModuleNotFoundError: {told}"


def test_its_benchmarks_write_where_they_were_typed(installed: Installed) -> None:
    quick = ["--sizes", "640x480", "--rounds", "1", "--seconds", "0.01"]
    ended = installed.run("mixer-bench", "decode", *quick, extras=True)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in installed.folder.rglob("*")} >= {"results", "decode.json", "decode.md"}
