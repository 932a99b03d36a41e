"""The Ray job without Ray: its rows, its parts, and its manifest. docs/ray.md says how it was run on a cluster."""

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from service.offline.paths import PathSet
from tests.doubles import write_bundle
from tests.e2e.processes import GOLDEN, ROOT

FOLDER = ROOT / "deploy" / "ray"
DIGITS = str(GOLDEN.parent)
MODEL = "digits/1@0123456789ab"
SEVEN = (GOLDEN / "digit-7.png").read_bytes()


@pytest.fixture(scope="module")
def rows() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("rows")
        for name in ("rows", "parts"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def parts(rows: ModuleType) -> ModuleType:
    del rows
    return importlib.import_module("parts")


def table_of(schema: pa.Schema, *paths: str, error: str | None = None) -> pa.Table:
    return pa.Table.from_pylist([{"path": path, "model": MODEL, "error": error} for path in paths], schema)


def test_every_image_is_a_row_and_those_that_are_done_are_none(
    rows: ModuleType, parts: ModuleType, tmp_path: Path
) -> None:
    done = PathSet()
    done.add("done")
    classify = rows.Classify(DIGITS, parts.Output(tmp_path, MODEL, 2), 2, 1, done)

    def part_of(batch: pa.Table) -> list[dict[str, Any]]:
        before = set(tmp_path.iterdir())
        (count,) = classify(batch)["rows"].to_pylist()
        (part,) = set(tmp_path.iterdir()) - before
        written = pq.read_table(part).to_pylist()
        assert len(written) == count
        assert classify(batch).num_rows == 1  # a second time
        assert set(tmp_path.iterdir()) - before == {part}
        return written

    images = {"seven": SEVEN, "done": SEVEN, "text": b"hello", "null": None}
    seven, text, null = part_of(pa.table({"path": list(images), "image": pa.array(images.values(), pa.binary())}))
    assert seven["predictions"][0]["label"] == "7"
    assert [len(seven["predictions"]), seven["error"], seven["model"]] == [2, None, MODEL]
    assert [text["path"], text["predictions"]] == ["text", None]
    assert text["error"].startswith("unsupported_image: ")
    assert null["error"].startswith("not_an_image: ")
    three, missing = part_of(pa.table({"path": [str(GOLDEN / "digit-3.png"), "missing.png"]}))
    assert three["predictions"][0]["label"] == "3"
    assert missing["error"] == "unreadable: No such file or directory"
    assert classify(pa.table({"path": ["done"], "image": [SEVEN]}))["rows"].to_pylist() == [0]


def test_features_are_a_column_of_whoever_asks(rows: ModuleType, parts: ModuleType, tmp_path: Path) -> None:
    batch = pa.table({"path": ["seven", "text"], "image": [SEVEN, b"hello"]})
    output = parts.Output(tmp_path, MODEL, 1, features=True)
    rows.Classify(DIGITS, output, 1, 1, PathSet())(batch)
    (part,) = output.parts()
    table = pq.read_table(part)
    assert table.schema.field("features").type == pa.list_(pa.float32())
    seven, text = table.to_pylist()
    assert (seven["predictions"][0]["label"], len(seven["features"])) == ("7", 128)
    assert (text["predictions"], text["features"]) == (None, None)
    with pytest.raises(parts.Refused, match="--features, and not by"):
        parts.Output(tmp_path, MODEL, 1).parts()


def test_parquet_files_may_have_images_in_structs(rows: ModuleType) -> None:
    plain = pa.table({"id": [1, 2], "image": [b"a", b"b"]})
    hub = pa.table({"picture": [{"bytes": b"a", "path": "1"}, {"bytes": b"b", "path": "2"}]})
    expected = [{"path": b"1", "image": b"a"}, {"path": b"2", "image": b"b"}]
    assert rows.keyed(plain, "image", "id").to_pylist() == expected
    assert rows.keyed(hub, "picture", "picture.path").to_pylist() == expected


def test_rows_that_nothing_tells_apart_are_refused(rows: ModuleType) -> None:
    for keys in (pa.table({"id": ["a", None, None]}), pa.table({"id": [{"of": "a"}, {"of": None}, None]})):
        key = "id" if keys["id"].type == pa.string() else "id.of"
        table = keys.append_column("image", pa.array([b"a"] * 3))
        with pytest.raises(ValueError, match=f"2 of 3 rows have no {key}, which is to tell them apart"):
            rows.keyed(table, "image", key)


def test_names_need_not_be_utf_8(rows: ModuleType, parts: ModuleType, tmp_path: Path) -> None:
    """Of files, and of parquet's keys."""
    file = tmp_path / os.fsdecode(b"caf\xe9-\xc3\xa9.png")
    file.write_bytes(SEVEN)
    keys = pa.array([b"k\xe9y", b"key"], pa.binary())
    unchecked = pa.Array.from_buffers(pa.string(), 2, keys.buffers())  # a careless writer's
    tables = [
        rows.path_table([str(file)]),
        rows.keyed(pa.table({"id": unchecked, "image": [SEVEN, SEVEN]}), "image", "id"),
        rows.keyed(pa.table({"id": keys, "image": [SEVEN, SEVEN]}), "image", "id"),
    ]
    output = parts.Output(tmp_path, MODEL, 1)
    classify = rows.Classify(DIGITS, output, 1, 1, PathSet())
    for table in tables:
        classify(table)
    (of_file, of_keys) = sorted((pq.read_table(part).to_pylist() for part in output.parts()), key=len)
    assert [row["path"] for row in of_file] == [f"{tmp_path}/caf\\xe9-é.png"]
    assert [row["path"] for row in of_keys] == ["k\\xe9y", "key"]
    assert {row["predictions"][0]["label"] for row in of_file + of_keys} == {"7"}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["images", "out", "--top-k", "0"], 2, "argument --top-k: '0' is no whole number from 1 on"),
        (["images", "out", "--cores", "0"], 2, "argument --cores: '0' is no whole number from 1 on"),
        (["images", "out", "--rows", "-1"], 2, "argument --rows: '-1' is no whole number from 1 on"),
        (["images", "out", "--model", "nope"], 1, "has no model 'nope'; it has backbone, digits"),
        (["images", "out", "--model", "backbone"], 1, "backbone/1 has no head, so it predicts nothing"),
        (["images", "images/file"], 1, "File exists: 'images/file'"),
        (["nowhere", "out"], 1, "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_ray_is_needed(
    tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "file").touch()
    write_bundle(tmp_path / "models", "backbone", features=True, head=False)
    write_bundle(tmp_path / "models", "digits")
    ended = subprocess.run(
        [sys.executable, FOLDER / "job.py", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    *_, line = ended.stderr.splitlines()
    assert (ended.returncode, line.startswith("job.py: ")) == (code, True), ended.stderr
    assert told in line
    assert "Traceback" not in ended.stderr


def test_of_a_sample_the_image_counts_whatever_its_suffix(rows: ModuleType) -> None:
    samples = [{"cls": b"1", "JPG": b"x"}, {"jpg": None, "png": b"y", "cls": b"2"}, {"png": float("nan"), "cls": b"3"}]
    images = [rows.of_sample({"__key__": "a"} | sample) for sample in samples]
    assert images == [{"path": "a", "image": image} for image in (b"x", b"y", None)]


def test_a_task_that_is_run_twice_writes_the_same_part(parts: ModuleType, tmp_path: Path) -> None:
    output = parts.Output(tmp_path, MODEL, 5)
    for _ in range(2):
        output.write("run-1.parquet", table_of(parts.SCHEMA, "a", "b"))
    output.write("run-2.parquet", table_of(parts.SCHEMA, "c", error="unreadable: no"))
    assert list(output.paths()) == ["a", "b", "c"]
    assert output.failed() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-1.parquet", "run-2.parquet"]


def test_an_output_of_something_else_is_refused(parts: ModuleType, tmp_path: Path) -> None:
    parts.Output(tmp_path, MODEL, 5).write("run-1.parquet", table_of(parts.SCHEMA, "a"))
    for other in (parts.Output(tmp_path, "other/1@0", 5), parts.Output(tmp_path, MODEL, 1)):
        with pytest.raises(parts.Refused, match="was made by digits/1@0123456789ab with --top-k 5"):
            other.parts()
    for text in (b"hello", _parquet(pa.table({"mine": [1]}))):
        (tmp_path / "mine.parquet").write_bytes(text)
        with pytest.raises(parts.Refused, match="mine"):
            parts.Output(tmp_path, MODEL, 5).parts()


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def test_the_manifest_runs_what_the_image_holds() -> None:
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    program = job["spec"]["entrypoint"].split()[1]
    folder, _, name = program.rpartition("/")
    copied = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if line.startswith("COPY deploy")]
    assert copied == [f"COPY deploy/ray/{name} deploy/ray/parts.py deploy/ray/rows.py {folder}/"]
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
