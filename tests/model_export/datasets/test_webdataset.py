import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import by_name, colour, encoded


def write_tar(path: Path, files: dict[str, str]) -> Path:
    """Images by the name that they are coloured by, and text."""
    with tarfile.open(path, "w:gz" if path.suffix != ".tar" else "w") as archive:
        for name, text in files.items():
            content = text.encode() if text else encoded(name)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_shards_by_part(tmp_path: Path) -> None:
    write_tar(tmp_path / "x-train-0000.tar", {"0.png": "", "0.cls": "1", "1.png": "", "1.cls": "0"})
    write_tar(tmp_path / "x-train-0001.tar", {"2.cls": "10", "2.png": ""})
    write_tar(tmp_path / "x-val-0000.tar", {"a/0.json": '{"label": 1}', "a/0.png": ""})
    data = open_data(str(tmp_path))
    assert data.classes == ("0", "1", "10")
    assert by_name(data.parts["train"]) == {
        "x-train-0000.tar/0.png": "1",
        "x-train-0000.tar/1.png": "0",
        "x-train-0001.tar/2.png": "10",
    }
    assert by_name(data.parts["val"]) == {"x-val-0000.tar/a/0.png": "1"}
    with ThreadPoolExecutor(4) as pool:
        pixels = list(pool.map(lambda index: data.parts["train"].load(index).getpixel((0, 0)), [0, 1, 2] * 20))
    assert pixels == [colour("0.png"), colour("1.png"), colour("2.png")] * 20
    (tmp_path / "classes.txt").write_text("".join(f"class {i}\n" for i in range(11)))
    assert open_data(str(tmp_path)).classes == ("class 0", "class 1", "class 10")


@pytest.mark.parametrize("name", ["one.tar", "one.tar.gz", "one.tgz"])
def test_one_tar(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, {"0.png": "", "0.txt": "cat\n", "1.png": "", "1.txt": "dog\n"})
    data = open_data(str(path)).parts["all"]
    assert by_name(data) == {f"{name}/0.png": "cat", f"{name}/1.png": "dog"}
    assert data.load(1).getpixel((0, 0)) == colour("1.png")


def test_wrong_tars_get_their_sentence(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.png": ""})
    with pytest.raises(DataError, match=r"sample 0 has png and no class \(\.cls, \.txt or \.json\)"):
        open_data(str(path))
    write_tar(path, {"0.cls": "1"})
    with pytest.raises(DataError, match="sample 0 has cls and no image"):
        open_data(str(path))
    write_tar(path, {"0.png": "", "0.json": '{"caption": "a cat"}'})
    with pytest.raises(DataError, match=r"0\.json has none of label, cls"):
        open_data(str(path))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"a\.tar: the archive is truncated or damaged"):
        open_data(str(path))
