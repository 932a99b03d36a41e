import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "http://127.0.0.1:9"), "http://127.0.0.1:9/v1/classify: "),
        (("--url", "127.0.0.1:9"), "is not an http:// or https:// URL"),
        (("--images", "nowhere"), "neither digits nor photographs nor a folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "cross-check", *arguments, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, str)
    assert ended.value.code.startswith("benchmarks cross-check: ")
    assert message in ended.value.code
    assert not list(tmp_path.iterdir())
