"""The architecture's promises about who knows what, read from the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = (
    *("errors", "settings", "metrics", "host", "timings", "logs"),
    *("bundles/manifest", "engines/engine", "models/postprocess"),
)


def imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def test_the_service_never_loads_torch_or_the_export_stage() -> None:
    program = (
        "import service.serve, service.app, sys\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'model_export', 'onnx', 'sklearn')])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_the_benchmark_of_the_service_needs_neither_torch_nor_other_engines() -> None:
    program = (
        "import benchmarks.commands, benchmarks.load, sys\n"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'model_export', 'onnx', 'openvino', 'matplotlib'})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "set()"


def test_benchmarks_load_openvino_without_its_telemetry(tmp_path: Path) -> None:
    program = "import benchmarks, openvino, sys; print('openvino_telemetry.main' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"HOME": str(tmp_path)},
    )
    assert result.stdout.strip() == "False"
    assert not list(tmp_path.iterdir())  # where it keeps its client's id


@pytest.mark.parametrize("package", ["service", "model_export", "benchmarks"])
def test_importing_a_package_opts_out_of_telemetry(package: str) -> None:
    program = f"import {package}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env={"PATH": ""}
    )
    assert result.stdout.strip() == "1"


def test_no_source_of_the_service_names_torch_or_the_export_stage() -> None:
    for path in sources("service"):
        assert not {module.split(".")[0] for module in imports(path)} & {"torch", "model_export", "benchmarks"}, path


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_nothing_of_ours(leaf: str) -> None:
    assert not [module for module in imports(ROOT / "service" / f"{leaf}.py") if module.startswith("service")]


def test_only_settings_reads_the_environment() -> None:
    for path in sources("service"):
        if path.name not in ("settings.py", "__init__.py"):  # the latter sets, and reads nothing
            assert not re.search(r"\benviron\b", path.read_text()), path
            assert "getenv" not in path.read_text(), path


def test_only_metrics_names_metrics_and_only_errors_knows_status_codes() -> None:
    routes = ("v1.py", "routes.py", "repository.py")  # which list them for the OpenAPI document
    for path in sources("service"):
        if path.name != "metrics.py":
            assert '"mixer_' not in path.read_text(), path
        if path.name not in ("errors.py", *routes):
            numbers = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
            assert not [n for n in numbers if isinstance(n, int) and 400 <= n < 512], path


def test_only_app_and_serve_construct_the_pipeline() -> None:
    for path in sources("service"):
        constructions = [" Replica(", " Loader(", " LoadedModels(", " Reloader(", " Metrics(", " Settings("]
        if path.name != "loader.py":  # which app.py constructs, and which makes each model's part
            constructions += [" Scheduler(", " Classifier(", "OnnxEngine(m"]
        if path.name not in ("app.py", "serve.py"):
            for construction in constructions:
                assert construction not in path.read_text().replace("class ", "class"), (path, construction)
