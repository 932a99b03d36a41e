"""The program itself: what works without the export extra, and what it says where it does not."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import model_export.__main__
from model_export.__main__ import main
from service import __version__

EXTRA = ("torch", "tqdm", "onnx", "onnxscript", "safetensors", "huggingface_hub", "sklearn", "matplotlib", "ml_dtypes")
ROOT = Path(__file__).parent.parent.parent


def without_the_extra(*arguments: str, missing: tuple[str, ...] = EXTRA) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); "
        f"from model_export.__main__ import main; main({list(arguments)!r})"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_help_and_version_need_no_extra() -> None:
    shown = without_the_extra("--help")
    assert shown.returncode == 0, shown.stderr
    for command in ("inspect", "export", "verify", "evaluate", "fewshot", "finetune", "runs", "visualize"):
        assert command in shown.stdout
    shown = without_the_extra("--version")
    assert (shown.returncode, shown.stdout) == (0, f"mixer-export {__version__}\n")


@pytest.mark.parametrize("missing", ["torch", "tqdm"])
def test_a_missing_extra_is_one_line_that_names_it(missing: str) -> None:
    shown = without_the_extra("export", "m.npz", "--name", "m", missing=(missing,))
    assert shown.returncode == 1
    assert shown.stderr == (
        f"mixer-export: {missing} is not installed: pip install 'mixer-serving[export]', or in a checkout make setup\n"
    )


@pytest.mark.parametrize("arguments", [[], ["frobnicate"]])
def test_no_such_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_every_command_has_a_module_that_says_the_same() -> None:
    for name, text in model_export.__main__._COMMANDS.items():
        module = importlib.import_module(f"model_export.commands.{name}")
        assert module.__file__ is not None
        assert ast.get_docstring(ast.parse(Path(module.__file__).read_text())) == text
