import os
from pathlib import Path

import pytest

from service.cores import allowed_cores, thread_budget

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
    ("cores", "decode", "engine"), [(2, 1, 1), (3, 1, 2), (4, 1, 3), (8, 2, 6), (16, 4, 12), (2.9, 1, 1), (64, 16, 48)]
)
def test_decode_and_engine_threads_fit_the_cores(cores: float, decode: int, engine: int) -> None:
    budget = thread_budget(cores)
    assert (budget.decode_threads, budget.engine_threads) == (decode, engine)
    assert budget.decode_threads + budget.engine_threads <= cores


@pytest.mark.parametrize("cores", [0.1, 0.5, 1.0, 1.9])
def test_below_two_cores_each_still_gets_a_thread(cores: float) -> None:
    budget = thread_budget(cores)
    assert (budget.decode_threads, budget.engine_threads) == (1, 1)


def test_the_operator_may_choose_the_engine_threads() -> None:
    budget = thread_budget(8, engine_threads=3)
    assert (budget.decode_threads, budget.engine_threads) == (5, 3)
