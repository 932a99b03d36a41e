"""The architecture's promises about who knows what, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Rooms of service/, and the rooms that each may use. A room may skip downward and never look up.
ALLOWED = {
    "offline": {"lanes", "images", "engines", "bundles"},
    "grpc_api": {"edge", "api", "models", "scheduling", "lanes", "images", "engines", "bundles"},
    "edge": {"models", "scheduling", "lanes", "images", "engines", "bundles"},
    "api": {"models", "scheduling", "lanes", "images", "engines", "bundles"},
    "models": {"scheduling", "lanes", "images", "engines", "bundles"},
    "scheduling": {"lanes", "images", "engines", "bundles"},
    "lanes": {"images", "engines", "bundles"},
    "images": {"bundles"},
    "engines": {"bundles"},
    "bundles": set(),
}
# At the root: what is everybody's, and knows nobody.
LEAVES = {"settings", "errors", "metrics", "host", "timings", "logs", "arrays"}
# The rest there, which no room may use, and what of the root each may use beside leaves.
ROOT_MODULES = {
    "__init__": {"offline"},  # for whoever asks for `Classifier`
    "__main__": {"command_line", "serve"},
    "serve": {"app", "command_line", "sources"},
    "sources": {"bundles"},
    "app": set(),
    "command_line": set(),
    "client": set(),  # in the user's process
}
WIRING = ("app", "serve", "__main__")  # which may use every room

SNEAKING = """
import typing
import service.api.door as door
if typing.TYPE_CHECKING:
    from service.models import replica
def later():
    from service.lanes.pool import LanePool
    from ..edge import connection
    from . import order, serve
    from service import app, __version__
"""


def imports(text: str, module: str) -> Iterator[str]:
    """Every module that a source imports, wherever in it; `module` is its own name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if _is_module(f"{base}.{alias.name}") else base


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported_by(path: Path) -> set[str]:
    return set(imports(path.read_text(), module_of(path)))


def room(module: str) -> str:
    """The room of a module of service/, or its own name at the root."""
    return [*module.split("."), "__init__"][1]


def forbidden(path: Path) -> set[str]:
    """What a source of service/ imports of service/ against the rule."""
    here = room(module_of(path))
    ours = {module for module in imported_by(path) if module.split(".")[0] == "service"} - {"service"}
    if here in LEAVES:
        return ours
    if here in ALLOWED:
        return {module for module in ours if room(module) not in {here} | ALLOWED[here] | LEAVES}
    rooms = ALLOWED.keys() if here in WIRING else set()
    return {module for module in ours if room(module) not in LEAVES | ROOT_MODULES[here] | rooms}


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", sources("service"), ids=module_of)
def test_rooms_are_used_downward_only(path: Path) -> None:
    assert not forbidden(path)


def test_every_room_and_every_module_at_the_root_is_in_the_rule() -> None:
    service = ROOT / "service"
    rooms = {path.name for path in service.iterdir() if list(path.glob("*.py"))}
    assert rooms == ALLOWED.keys()
    assert {path.stem for path in service.glob("*.py")} == LEAVES | ROOT_MODULES.keys()


def test_no_room_is_above_itself() -> None:
    for here, below in ALLOWED.items():
        for other in below:
            assert here not in ALLOWED[other]
            assert ALLOWED[other] <= below  # what is skipped is below too


def test_an_import_is_found_wherever_it_is() -> None:
    assert set(imports(SNEAKING, "service.scheduling.scheduler")) == {
        *("typing", "service.api.door", "service.models.replica", "service.lanes.pool", "service.edge.connection"),
        *("service.scheduling.order", "service.scheduling", "service.app", "service"),
    }


def test_the_service_never_loads_torch_or_the_export_stage() -> None:
    program = (
        "import service.serve, service.app, sys\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'model_export', 'onnx', 'sklearn')])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_the_front_loads_neither_decoder_nor_engine_and_the_classifier_nothing_of_http() -> None:
    http = {"fastapi", "starlette", "uvicorn", "httptools", "httpx", "aiohttp", "http", "wsgiref", "prometheus_client"}
    lanes = {"PIL", "onnxruntime", "openvino", "grpc"}  # the last of which is the front's where it is asked for
    for program, forbidden in {
        "import service": {"numpy", "pydantic"} | http | lanes,
        "import service.__main__, service.serve": lanes,
        "from service import Classifier": http,
        "import service.offline.command": http,
    }.items():
        code = f"{program}; import sys; print(sorted({{m.split('.')[0] for m in sys.modules}} & {forbidden}))"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert result.stdout.strip() == "[]", program


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


def test_no_source_of_the_service_names_torch_or_the_other_stages() -> None:
    for path in sources("service"):
        assert not {module.split(".")[0] for module in imported_by(path)} & {"torch", "model_export", "benchmarks"}, (
            path
        )


def test_only_images_decode_and_only_engines_pass() -> None:
    """Beside them `engines/measuring.py` makes the photograph that decoding is measured on."""
    for path in sources("service"):
        libraries = {module.split(".")[0] for module in imported_by(path)}
        here = room(module_of(path))
        assert "PIL" not in libraries or here == "images" or path.name == "measuring.py", path
        assert not {"onnxruntime", "openvino"} & libraries or here == "engines", path


def test_only_settings_reads_the_environment() -> None:
    for path in sources("service"):
        if path.name not in ("settings.py", "__init__.py"):  # the latter sets, and reads nothing
            tree = ast.parse(path.read_text())
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
            assert not names & {"environ", "environb", "getenv", "getenvb"}, path


def test_only_metrics_names_metrics_and_only_errors_knows_status_codes() -> None:
    routes = ("v1.py", "routes.py", "repository.py")  # which list them for the OpenAPI document
    for path in sources("service"):
        constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        if path.name != "metrics.py":
            assert not [text for text in constants if isinstance(text, str) and text.startswith("mixer_")], path
        if path.name not in ("errors.py", *routes):
            assert not [number for number in constants if isinstance(number, int) and 400 <= number < 512], path


WITHOUT_HTTP = {"offline.command": {"Settings"}, "offline.batches": {"LanePool"}}  # which have their own
CONSTRUCTS = {
    "command_line": {"Settings"},
    "serve": {"Metrics"},
    "app": {"Replica", "Loader", "LoadedModels", "Lifecycle", "Admission", "SharedCores"},
    "models.loader": {"Classifier", "Scheduler", "Promises", "LanePool"},
    "offline.classifier": {"Batches"},
    "lanes.program": {"Worker"},
    "engines.choice": {"OnnxEngine", "OpenVinoEngine"},
    "engines.gpu.gpu_engine": {"CudaEngine", "TensorRTEngine"},
}


def test_only_wiring_loader_and_a_lanes_program_construct_the_pipeline() -> None:
    for path in sources("service"):
        here = module_of(path).removeprefix("service.")
        for node in ast.walk(ast.parse(path.read_text())):
            # What is called, and what `partial` or the like is to call.
            called = [node.func, *node.args] if isinstance(node, ast.Call) else []
            names = {each.id for each in called if isinstance(each, ast.Name)}
            for place, constructed in CONSTRUCTS.items():
                assert place == here or not names & constructed - WITHOUT_HTTP.get(here, set()), path
