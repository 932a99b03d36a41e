"""What people pickle beside weights does no harm, and code never runs."""

import argparse
import builtins
import collections
import datetime
import decimal
import enum
import functools
import os
import pickle
import subprocess
import sys
import types
import uuid
import zipfile
import zoneinfo
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from tests.model_export import oracle

WEIGHTS = oracle.random_timm_weights()
STATE = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}


class Colour(enum.Enum):
    RED = 1


class EasyDict(dict[str, Any]):
    pass


class Slotted:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = np.ones(2)


class HistoryBuffer:
    """As mmengine's, which pickles its own methods with itself."""

    def __init__(self) -> None:
        self._log_history = np.array([0.1, 0.2])
        self.statistics_methods = {"min": HistoryBuffer.min}

    def min(self) -> float:
        return 0.0


def a_function() -> None:
    raise AssertionError("it was called")


HARMLESS = {
    "numpy scalars": np.float64(0.5),
    "numpy integers": np.int64(3),
    "arrays": np.arange(6.0).reshape(2, 3),
    "structured arrays": np.zeros(2, [("a", "f4")]),
    "dtypes": np.dtype("f4"),
    "random states": np.random.RandomState(0).get_state(),
    "generators": np.random.default_rng(0),
    "paths": Path("runs/1"),
    "pure paths": PurePosixPath("runs/1"),
    "times": datetime.datetime.now(datetime.UTC),
    "zones": datetime.datetime(2021, 5, 4, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "durations": datetime.timedelta(seconds=3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("abc"),
    "deque": collections.deque([1, 2], maxlen=3),
    "sets": {1, 2},
    "frozen sets": frozenset({1}),
    "ranges": range(3),
    "slices": slice(3),
    "complex": 1j,
    "bytes": b"abc",
    "UUID": uuid.UUID(int=1),
    "Decimal": decimal.Decimal("0.1"),
    "members": Colour.RED,
    "Namespace": argparse.Namespace(lr=0.1, out=Path("x")),
    "SimpleNamespace": types.SimpleNamespace(lr=0.1),
    "dict subclasses": EasyDict(lr=0.1),
    "slots": Slotted(),
    "partial": functools.partial(torch.nn.LayerNorm, eps=1e-6),
    "classes": torch.nn.GELU,
    "functions": a_function,
    "losses": torch.nn.CrossEntropyLoss(),
    "HistoryBuffer": {"loss": HistoryBuffer()},
    "keys": {Path("a"): 1, Colour.RED: 2},
}


def harmless(kind: str) -> object:
    """The first optimizer loads torch's compiler, which takes seconds: not where tests are collected."""
    if kind == "schedulers":
        return torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)], 0.1), 1)
    return HARMLESS[kind]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [*HARMLESS, "schedulers"])
def test_harmless_objects_beside_weights(tmp_path: Path, kind: str, protocol: int) -> None:
    beside = harmless(kind)
    for zipped in (True, False):
        torch.save(
            {"model": STATE, "beside": beside, "again": [beside]},
            tmp_path / "run.pth",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=zipped,
        )
        state = read_checkpoint(tmp_path / "run.pth").state
        assert all(
            state[f"blocks.0.token_mixing.dense_0.{leaf}"].equal(STATE[f"blocks.0.mlp_tokens.fc1.{leaf}"])
            for leaf in ("weight", "bias")
        )
        assert len(state) == len(STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "holder",
    [collections.OrderedDict, EasyDict, functools.partial(collections.defaultdict, list)],
    ids=["OrderedDict", "EasyDict", "defaultdict"],
)
def test_weights_in_any_mapping(tmp_path: Path, holder: Any, zipped: bool) -> None:
    torch.save({"model": holder(STATE)}, tmp_path / "run.pth", _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(tmp_path / "run.pth").state["head.weight"].equal(STATE["head.weight"])


def test_every_kind_of_plain_tensor(tmp_path: Path) -> None:
    base = torch.cat([torch.zeros(5), STATE["norm.bias"]])
    parameter = torch.nn.Parameter(STATE["head.bias"].clone())
    parameter.note = "weight decay: none"  # type: ignore[attr-defined]  # it is pickled with the tensor
    changed = {
        "norm.bias": base[5:],  # a view into a larger storage
        "head.bias": parameter,
        "head.weight": torch.nn.Parameter(STATE["head.weight"].T.contiguous().T),  # not contiguous
        "norm.weight": STATE["norm.weight"].to(torch.bfloat16),
        "stem.proj.bias": STATE["stem.proj.bias"].double(),
    }
    for zipped in (True, False):
        torch.save(STATE | changed, tmp_path / "m.pth", _use_new_zipfile_serialization=zipped)
        state = read_checkpoint(tmp_path / "m.pth").state
        assert state["pre_head_layer_norm.bias"].equal(STATE["norm.bias"])
        assert state["head.bias"].equal(STATE["head.bias"])
        assert state["head.weight"].equal(STATE["head.weight"])
        assert state["pre_head_layer_norm.weight"].equal(STATE["norm.weight"].bfloat16().float())
        assert state["stem.bias"].equal(STATE["stem.proj.bias"])


class Calls:
    """An object whose pickle calls what it is told to."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("how", ["system", "eval", "exec", "popen", "method", "opening", "importing"])
def test_code_never_runs(tmp_path: Path, how: str, zipped: bool, protocol: int) -> None:
    witness = tmp_path / "witness"
    hostile = {
        "system": Calls(os.system, f"touch {witness}"),
        "eval": Calls(builtins.eval, f"open({str(witness)!r}, 'w')"),
        "exec": Calls(builtins.exec, f"open({str(witness)!r}, 'w')"),
        "popen": Calls(subprocess.Popen, ["touch", str(witness)]),
        "method": Calls(Path.touch, witness),
        "opening": Calls(builtins.open, str(witness), "w"),
        "importing": Calls(builtins.__import__, "antigravity"),
    }[how]
    path = tmp_path / "m.pth"
    torch.save(STATE | {"x": hostile}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"needs the Python object .*pickled code is never run"):
        read_checkpoint(path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"x": hostile}, protocol=protocol))
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "plain.pth")
    assert not witness.exists()
    assert "antigravity" not in sys.modules


def test_functions_that_are_not_the_systems_stand_still(tmp_path: Path) -> None:
    torch.save(STATE | {"x": {"made by": Calls(a_function)}}, tmp_path / "m.pth")
    assert read_checkpoint(tmp_path / "m.pth").layout == "timm"


def test_a_network_pickled_whole_is_told_to_become_a_state_dict(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    for saved in (network, {"model": network}, {"epoch": 3, "optimizer": {"state": torch.ones(2, 2)}, "net": network}):
        torch.save(saved, tmp_path / "m.pth")
        with pytest.raises(
            CheckpointError, match=r"Sequential, and pickled code is never run; save only the state_dict"
        ):
            read_checkpoint(tmp_path / "m.pth")


def test_a_memo_index_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "m.pth")


@pytest.mark.parametrize(
    "target",
    [b"ctorch\nTensor\n", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nfloat32\n"],
)
def test_a_pickle_cannot_write_to_what_it_names(tmp_path: Path, target: bytes) -> None:
    before = torch.Tensor.float, torch._utils._rebuild_tensor_v2.__defaults__  # type: ignore[attr-defined]
    for state in (b"}X\x05\x00\x00\x00floatK\x01s", b"N}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86"):
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
            archive.writestr("m/data.pkl", b"\x80\x02" + target + state + b"b.")
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "m.pth")
    assert before == (torch.Tensor.float, torch._utils._rebuild_tensor_v2.__defaults__)  # type: ignore[attr-defined]
