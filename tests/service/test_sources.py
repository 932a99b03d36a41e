"""`--model`: what becomes of a bundle, a checkpoint and a repository on the Hub. The export is a double here."""

import fcntl
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

import service.sources
from service.bundles.bundle import BundleError
from service.settings import Settings
from service.sources import settings_for
from tests.doubles import write_bundle

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the export stage is told to do; it does it."""
    told: list[tuple[str, ...]] = []

    def export(*arguments: str, lock: object = None) -> str:
        told.append(arguments)
        if arguments[0] == "download":
            return f"/cache/models--owner--repo/snapshots/{COMMIT}"
        repository = Path(arguments[arguments.index("--repository") + 1])
        return str(write_bundle(repository, arguments[arguments.index("--name") + 1]))

    monkeypatch.setattr(service.sources, "_export", export)
    return told


def served(source: Path | str, cache: Path) -> Path:
    """The bundle that is served for a source."""
    settings = settings_for(Settings(model=str(source), cache=cache))
    (model,) = settings.models
    bundle = settings.model_repository / model
    assert (bundle / "manifest.json").is_file()
    return bundle


def test_without_it_everything_is_as_it_was() -> None:
    settings = Settings()
    assert settings_for(settings) is settings


def test_a_bundle_is_served_where_it_is(
    tmp_path: Path, exports: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "models", "echo", "3")
    assert served(bundle, tmp_path / "cache") == bundle
    monkeypatch.chdir(tmp_path)
    assert served("models/echo/3", tmp_path / "cache") == bundle
    latest = write_bundle(tmp_path / "models", "echo", "10")
    assert served("models/echo", tmp_path / "cache") == latest
    assert exports == []


def test_a_bundle_in_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    shutil.move(write_bundle(tmp_path / "models"), tmp_path / "downloaded")
    with pytest.raises(BundleError, match="downloaded: its manifest calls it echo/1, and its folder has to be called"):
        served(tmp_path / "downloaded", tmp_path / "cache")


@pytest.mark.parametrize("folder", ["my model/1", "echo/v1"])
def test_a_folder_that_no_model_repository_has_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).parent.mkdir()
    shutil.move(write_bundle(tmp_path / "models"), tmp_path / folder)
    with pytest.raises(BundleError, match=r"MIXER_MODEL .*: its folders with a manifest.json are no versions"):
        served((tmp_path / folder).parent, tmp_path / "cache")


def test_a_checkpoint_is_exported_once_as_long_as_it_is_the_same(
    tmp_path: Path, exports: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "my mixer.safetensors"
    checkpoint.write_bytes(b"weights")
    first = served(checkpoint, tmp_path / "cache")
    assert (first.parent.name, first.name) == ("my-mixer", "1")
    monkeypatch.chdir(tmp_path)
    assert served(checkpoint.name, tmp_path / "cache") == first  # however it is named
    assert [told[:2] for told in exports] == [("export", str(checkpoint))]
    checkpoint.write_bytes(b"other weights")
    second = served(checkpoint, tmp_path / "cache")
    assert second != first
    checkpoint.write_bytes(b"weights")
    assert served(checkpoint, tmp_path / "cache") == first
    assert len(exports) == 2


def test_a_start_waits_for_another_one_that_exports_the_same(
    tmp_path: Path, exports: list[tuple[str, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service")
    checkpoint, cache = tmp_path / "mixer.safetensors", tmp_path / "cache"
    checkpoint.write_bytes(b"weights")
    made = served(checkpoint, cache)
    shutil.move(made, tmp_path / "not yet")
    exports.clear()
    waits = threading.Event()
    caplog.handler.addFilter(lambda record: waits.set() or True)
    with ThreadPoolExecutor(1) as threads, (made.parent.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the other one has it
        second = threads.submit(served, checkpoint, cache)
        assert waits.wait(60)
        shutil.move(tmp_path / "not yet", made)
        lock.close()
        assert second.result(60) == made
    assert caplog.messages == [f"waiting for another start, which exports {checkpoint} into {made.parent.parent}"]
    assert exports == []


@pytest.mark.parametrize("source", ["hub", "hub/model.safetensors.index.json"])
def test_of_a_folder_and_of_shards_every_file_counts(
    tmp_path: Path, exports: list[tuple[str, ...]], source: str
) -> None:
    for name in ("config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        (tmp_path / "hub").mkdir(exist_ok=True)
        (tmp_path / "hub" / name).write_text("before")
    served(tmp_path / source, tmp_path / "cache")
    served(tmp_path / source, tmp_path / "cache")
    assert len(exports) == 1
    (tmp_path / "hub" / "model-00001-of-00002.safetensors").write_text("after")
    served(tmp_path / source, tmp_path / "cache")
    assert len(exports) == 2


def test_of_a_repository_the_commit_counts(tmp_path: Path, exports: list[tuple[str, ...]]) -> None:
    by_name = served("hf:owner/repo", tmp_path / "cache")
    assert by_name.parent.name == "repo"
    assert [told[:2] for told in exports] == [
        ("download", "hf:owner/repo"),
        ("export", f"hf:owner/repo@{COMMIT}"),
    ]
    assert served("hf:owner/repo@main", tmp_path / "cache") == by_name
    assert served(f"hf:owner/repo@{COMMIT}", tmp_path / "cache") == by_name
    assert [told[0] for told in exports] == ["download", "export", "download"]  # a full commit asks nobody


def test_without_the_export_stage_a_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "m.npz").touch()
    with pytest.raises(BundleError, match=r"m\.npz is to be exported first: pip install 'mixer-serving\[export\]', or"):
        served(tmp_path / "m.npz", tmp_path / "cache")
    with pytest.raises(BundleError, match=r"hf:owner/repo is to be exported first"):
        served("hf:owner/repo", tmp_path / "cache")
    with pytest.raises(BundleError, match=r"MIXER_MODEL misspelt\.npz: no such file or folder"):
        served("misspelt.npz", tmp_path / "cache")


def test_a_cache_that_cannot_be_is_named(tmp_path: Path, exports: list[tuple[str, ...]]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"MIXER_CACHE .*file: (Not a directory|File exists)"):
        served("m.npz", tmp_path / "file")


@pytest.mark.parametrize(
    ("others", "named"),
    [({"models": ["a"]}, "MIXER_MODELS"), ({"model_repository": "models"}, "MIXER_MODEL_REPOSITORY")],
)
def test_it_takes_the_place_of_a_repository(others: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=f"MIXER_MODEL is served alone: leave out {named}"):
        Settings(model="m.npz", **others)
    with pytest.raises(ValidationError, match="it is empty"):
        Settings(model="")
