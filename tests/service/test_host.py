import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.host import allowed_cores, check_limits, memory_limit

ROOT = Path(__file__).parent.parent.parent
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
def test_the_memory_limit_of_a_container(tmp_path: Path, membership: str, file: str, unlimited: str) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": membership, file: unlimited})
    assert memory_limit(root) is None
    (root / file).write_text(f"{100 * MIB}\n")
    assert memory_limit(root) == 100 * MIB
    (root / file).write_text("no number\n")
    assert memory_limit(root) is None


def test_the_least_of_the_limits_above_counts(tmp_path: Path) -> None:
    limits = {"": 300, "pods/": 100, "pods/web/": 200}
    files = {f"sys/fs/cgroup/{group}memory.max": str(limit * MIB) for group, limit in limits.items()}
    assert memory_limit(tree(tmp_path, {"proc/self/cgroup": "0::/pods/web\n"} | files)) == 100 * MIB


def test_a_limit_beyond_the_machine_is_none(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(machine)}
    assert memory_limit(tree(tmp_path, files)) is None


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("kind", "limit", "told"),
    [
        (resource.RLIMIT_NOFILE, 63, "the limit of 63 open files"),
        (resource.RLIMIT_AS, 2**30 - 1, "the limit of 1023 MiB"),
    ],
)
def test_a_limit_below_what_the_service_takes_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: int, limit: int, told: str
) -> None:
    limits = {resource.RLIMIT_NOFILE: 64, resource.RLIMIT_AS: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], resource.RLIM_INFINITY))
    check_limits()
    limits[kind] = limit
    with pytest.raises(OSError, match=told):
        check_limits()


def test_standard_streams_that_were_closed_are_there_for_lanes_too_and_no_file_of_ours_is_one_of_them() -> None:
    shows = 'test "$(readlink /proc/self/fd/1)" = /dev/null && test "$(readlink /proc/self/fd/2)" = /dev/null'
    program = f"""
import os, sys
from service.host import open_standard_streams
open_standard_streams()
for use in (lambda: sys.stdin.read(), lambda: os.write(1, b"row")):
    try:
        use()
    except OSError as error:
        assert error.errno == 9, error
    else:
        sys.exit("taken for read, or written")
print("told", file=sys.stderr)
sys.exit(os.system({shows!r}) + os.open("/dev/zero", os.O_RDONLY) - 3)
"""
    command = ["bash", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
