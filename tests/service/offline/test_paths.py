"""Which files a command line names, in which order, and each once."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from service.offline import paths
from service.offline.paths import ImagePaths, PathSet


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*named: str, listed: tuple[bytes, ...] = ()) -> list[str]:
    return list(ImagePaths(list(named), listed))


@pytest.mark.usefixtures("folder")
def test_a_folder_is_all_images_below_it_in_order() -> None:
    make("a/c.JPEG", "a/b.png", "a/b/z.webp", "a/b/y.tiff", "a/notes.txt", "a/.hidden.png", "a/.git/x.png", "a/noname")
    images = ImagePaths(["a"], ())
    assert list(images) == ["a/b/y.tiff", "a/b/z.webp", "a/b.png", "a/c.JPEG"]
    assert images.passed_over == 2


@pytest.mark.usefixtures("folder")
def test_a_file_is_taken_whatever_it_is_called() -> None:
    make("a.txt", ".hidden/b", "[c].png")
    assert found("a.txt", ".hidden/b", "./[c].png", "missing") == ["a.txt", ".hidden/b", "[c].png", "missing"]
    assert found(".hidden") == []  # which has no image by its suffix
    make(".hidden/c.png")
    assert found(".hidden/") == [".hidden/c.png"]


@pytest.mark.usefixtures("folder")
def test_a_glob_matches_at_any_depth_and_a_folder_that_it_matches_is_looked_into() -> None:
    make("a/b.png", "a/c/d.png", "a/c/e.jpg", "f.png")
    assert sorted(found("**/*.png")) == ["a/b.png", "a/c/d.png", "f.png"]
    assert sorted(found("a/[bc]*")) == ["a/b.png", "a/c/d.png", "a/c/e.jpg"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "pattern",
    (
        *(
            "**",
            "**/",
            "**/*",
            "**/*.png",
            "a/**",
            "a/**/*.png",
            "./**/c/*.png",
            "*/**/d.png",
            "**/c/**/*.png",
            "**/**",
        ),
        *("a**", "**/[[]x]/*", "**/.h/*", "**/nothing", "missing/**", "//**/nothing"),
    ),
)
def test_a_glob_is_what_python_takes_it_for(pattern: str) -> None:
    make("a/b.png", "a/c/d.png", "a/c/.h/e.png", "a/[x]/f.png", "g.png", ".h/i.png")
    if pattern.startswith("//"):
        pattern = f"{Path.cwd()}{pattern[1:]}"

    def files(found: Iterable[str]) -> set[Path]:
        return {Path(path) for path in found if Path(path).is_file()}

    assert files(paths.matches(pattern)) == files(glob.iglob(pattern, recursive=True))  # noqa: PTH207


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("pattern", ["empty/**", "empty/**/", "empty/**/**", "./empty/**", "*/**", "**"])
def test_an_empty_folder_is_there(pattern: str) -> None:
    Path("empty").mkdir()
    assert any(paths.matches(pattern))
    assert found(pattern) == []
    make("empty/.hidden.png")
    assert any(paths.matches(pattern))
    assert found(pattern) == []
    make("empty/a.png")
    assert set(found(pattern)) == {"empty/a.png"}


@pytest.mark.usefixtures("folder")
def test_an_empty_folder_that_one_stands_in_is_there() -> None:
    assert list(paths.matches("**")) == ["."]
    assert found("**") == []
    make("a.png")
    assert list(paths.matches("**")) == ["a.png"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("pattern", ["missing/**", "a.png/**", "empty/**/*.png", "empty/*"])
def test_what_is_not_there_is_not_found(pattern: str) -> None:
    make("a.png")
    Path("empty").mkdir()
    assert not any(paths.matches(pattern))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("pattern", ["**", "**/*", "**/*.png", "a/**/*", "*"])
def test_a_glob_does_not_go_round_in_circles(pattern: str) -> None:
    make("a/b/c.png", "a/d/e.png", "other/f.png")
    links = {"a/b/up": "..", "a/b/d": "../d", "a/d/b": "../b", "a/itself": ".", "a/other": "../other"}
    for link, target in links.items():
        Path(link).symlink_to(target)
    images = set(found(pattern))
    assert images >= {"a/b/c.png", "a/d/e.png", "a/b/d/e.png", "a/d/b/c.png", "a/other/f.png"}
    assert not {path for path in images if "up" in path or "itself" in path or path.count("/") > 3}


def test_a_glob_that_leads_up_finds_the_folder_that_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos1", "photos2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    monkeypatch.chdir(tmp_path / "photos1")
    assert sorted(found("../photos*")) == ["../photos1/a.png", "../photos2/a.png"]


@pytest.mark.usefixtures("folder")
def test_standard_input_has_a_path_a_line_and_no_globs() -> None:
    make("a b.png", "c/d.png", "*.png")
    listed = (b"a b.png\n", b"\n", b"c\r\n", b"*.png\n", b"\xff.png")
    assert found("-", listed=listed) == ["a b.png", "c/d.png", "*.png", os.fsdecode(b"\xff.png")]


def test_a_path_that_cannot_be_is_not_lost() -> None:
    names = ["a" * 10_000, "nul\0l", "last"]
    assert found("-", listed=tuple(f"{name}\n".encode() for name in names)) == names


@pytest.mark.usefixtures("folder")
def test_links_to_folders_are_followed_and_not_in_circles() -> None:
    make("a/b/c.png", "other/d.png")
    Path("a/b/up").symlink_to("..")
    Path("a/link").symlink_to("../other")
    Path("a/broken.png").symlink_to("nowhere")
    Path("a/itself.png").symlink_to("itself.png")
    assert found("a") == ["a/b/c.png", "a/broken.png", "a/itself.png", "a/link/d.png"]


@pytest.mark.usefixtures("folder")
def test_a_folder_that_cannot_be_listed_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    make("a/b/c.png", "a/d.png")
    scandir = os.scandir

    def forbidding(path: str | Path) -> object:
        if Path(path).name == "b":
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert found("a") == ["a/b", "a/d.png"]
    assert found("a/b/**") == ["a/b"]


def test_a_set_knows_what_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_RECENT", 7)
    seen = PathSet()
    names = [f"{number}.png" for number in range(100)]
    assert all(seen.add(name) for name in names)
    assert len(seen) == 100
    assert not any(seen.add(name) for name in names)
    assert seen.add("another")
    assert len(seen) == 101
