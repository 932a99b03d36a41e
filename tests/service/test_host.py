import os
from pathlib import Path

import pytest

from service.host import allowed_cores, check_memory

AFFINITY = len(os.sched_getaffinity(0))
MIB = 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert allowed_cores(tmp_path) == AFFINITY


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5, id="v2-container"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/pods/web\n",
                "sys/fs/cgroup/pods/cpu.max": "25000 100000",
                "sys/fs/cgroup/pods/web/cpu.max": "max 100000",
            },
            0.25,
            id="v2-quota-of-an-ancestor",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, AFFINITY, id="v2-unlimited"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "75000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.75,
            id="v1-container-whose-path-is-the-host's",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            AFFINITY,
            id="v1-unlimited",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000"}, AFFINITY, id="affinity"
        ),
    ],
)
def test_quota_caps_the_affinity(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    assert allowed_cores(tree(tmp_path, files)) == cores


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
