from pathlib import Path

import pytest

from service.memory import check_memory

MIB = 2**20


@pytest.mark.parametrize(
    ("membership", "file", "unlimited"),
    [
        ("0::/\n", "sys/fs/cgroup/memory.max", "max\n"),
        ("4:memory:/docker/x\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ],
    ids=["v2", "v1"],
)
def test_a_limit_below_what_the_models_take_is_refused(
    tmp_path: Path, membership: str, file: str, unlimited: str
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(bytes(4 * MIB))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    limit = tmp_path / file
    limit.parent.mkdir(parents=True)
    for text in (unlimited, str(136 * MIB)):
        limit.write_text(text)
        check_memory([model], tmp_path)
    limit.write_text(str(135 * MIB))
    with pytest.raises(MemoryError, match="135 MiB is too little: to load the models takes 136 MiB"):
        check_memory([model], tmp_path)


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    check_memory([], tmp_path)
