import os
from pathlib import Path

import pytest

from service.host import allowed_cores, thread_budget

AFFINITY = len(os.sched_getaffinity(0))


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
    ("cores", "engine_ms", "decode_ms", "engine", "decode"),
    [
        (16, 40, 2, 15, 1),
        (16, 2, 2, 8, 8),
        (16, 7, 3, 11, 5),
        (8, 0.1, 5, 1, 7),
        (2, 2, 2, 1, 1),  # a core each keeps both busy
        (2, 40, 2, 2, 0),  # a core of its own would leave decoding idle nearly all the time
        (2, 1, 3, 1, 1),
        (3.9, 30, 10, 2, 1),
        (1, 10, 10, 1, 0),
        (0.5, 10, 10, 1, 0),
    ],
)
def test_cores_go_where_the_time_goes(
    cores: float, engine_ms: float, decode_ms: float, engine: int, decode: int
) -> None:
    budget = thread_budget(cores, 0, engine_ms, decode_ms)
    assert (budget.engine_threads, budget.decode_threads) == (engine, decode)
    assert budget.decode_threads + budget.engine_threads <= max(1, cores)


@pytest.mark.parametrize(("cores", "threads", "decode"), [(8, 3, 5), (2, 1, 1), (2, 2, 0), (0.5, 1, 0)])
def test_the_operator_may_choose_the_engine_threads(cores: float, threads: int, decode: int) -> None:
    budget = thread_budget(cores, engine_threads=threads)
    assert (budget.decode_threads, budget.engine_threads) == (decode, threads)
