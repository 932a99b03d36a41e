"""Features in a file beside their rows: row by row, gone on with wherever it was cut off, and never another run's."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidImage
from service.lanes.postprocess import Prediction
from service.offline import feature_file
from service.offline.classifier import Classification, Outcome
from service.offline.feature_file import FeatureFile
from service.offline.output import Output
from service.offline.rows import JsonRows, NotOurs
from tests.doubles import features_of, npy

BAD = InvalidImage("no")


def answer(level: int) -> Classification:
    return Classification("echo", "1", (Prediction(level, "x", 1.0),), {}, features_of([level])[0])


OUTCOMES: list[Outcome] = [answer(1), BAD, answer(3), answer(4), BAD, BAD, answer(7)]
WHOLE = np.array([each.features if isinstance(each, Classification) else [np.nan] * 3 for each in OUTCOMES], np.float32)


class Pair:
    """Rows and their features, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.rows, self.features = folder / "x.jsonl", folder / "x.npy"

    def open(self) -> tuple[Output, FeatureFile]:
        output = Output.open(str(self.rows), JsonRows("echo/1@0", 1))
        try:
            return output, FeatureFile.open(str(self.features), 3, output)
        except BaseException:
            output.close()
            raise

    def run(self, outcomes: list[Outcome] = OUTCOMES) -> None:
        """What is not there yet."""
        output, features = self.open()
        for place, outcome in enumerate(outcomes):
            if output.done.add(f"{place}.png"):
                features.write(outcome)
                output.write(f"{place}.png", outcome)
                features.commit()
        features.close()
        output.close()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_it_is_what_numpy_saves(pair: Pair) -> None:
    pair.run()
    assert pair.features.read_bytes() == npy(WHOLE)
    mapped = np.load(pair.features, mmap_mode="r")
    assert (mapped.dtype, mapped.shape) == (np.float32, (7, 3))


def test_it_goes_on_with_what_is_there(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_file, "_AT_ONCE", 24)  # two rows
    for rows in (0, 1, 5, 5, 7):
        pair.run(OUTCOMES[:rows])
        assert pair.features.read_bytes() == npy(WHOLE[:rows])


@pytest.mark.parametrize("rows", [0, 1, 2, 6])
def test_wherever_it_was_killed_it_goes_on_with_whole_rows(pair: Pair, rows: int) -> None:
    """A row is written, then the output's, then it is counted: each of which may have been cut off."""
    pair.run(OUTCOMES[:rows])
    before, told = pair.features.read_bytes(), pair.rows.read_bytes()
    pair.run(OUTCOMES[: rows + 1])
    after, told_after = pair.features.read_bytes(), pair.rows.read_bytes()
    stages = [(before + after[len(before) :][:size], told) for size in range(0, 13, 3)]
    stages += [
        (before + after[len(before) :], told_after[:size]) for size in (len(told), len(told_after) - 9, len(told_after))
    ]
    if not rows:
        stages += [(before[:size], b"") for size in range(0, len(before), 9)]
    for features, text in stages:
        pair.features.write_bytes(features)
        pair.rows.write_bytes(text)
        pair.run()
        assert pair.features.read_bytes() == npy(WHOLE)
        assert np.isnan(np.load(pair.features)).all(axis=1).tolist() == [
            '"error"' in line for line in pair.rows.read_text().splitlines()
        ]


def test_a_disk_that_is_full_is_told_and_gone_on_from(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*x\.npy'"):
            pair.open()
    pair.run()
    assert pair.features.read_bytes() == npy(WHOLE)


OTHERS = {
    "text": b"hello\n",
    "long text": b"hello\n" * 99,
    "other size": npy(np.zeros((7, 4), np.float32)),
    "other type": npy(np.zeros((7, 3))),
    "other order": npy(np.asfortranarray(WHOLE)),
    "one dimension": npy(np.zeros(7, np.float32)),
    "objects": npy(np.array([None] * 7)),
    "less rows": npy(WHOLE[:5]),
    "one row less": npy(WHOLE[:6]),
    "one row more": npy(np.vstack([WHOLE, WHOLE[:1]])),
    "no rows": npy(WHOLE[:0]),
    "empty": b"",
    "errors elsewhere": npy(WHOLE[::-1]),
    "an error more": npy(np.where(np.arange(7)[:, None] == 6, np.float32(np.nan), WHOLE)),
    "cut off": npy(WHOLE)[:-1],
    "more behind it": npy(WHOLE) + bytes(13),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_of_no_run_with_these_rows_is_left_as_it_is(pair: Pair, other: bytes) -> None:
    pair.run()
    pair.features.write_bytes(other)
    told = pair.rows.read_bytes()
    with pytest.raises(NotOurs):
        pair.run([*OUTCOMES, answer(9)])
    assert (pair.features.read_bytes(), pair.rows.read_bytes()) == (other, told)


def test_rows_that_were_written_without_features_are_told(pair: Pair) -> None:
    pair.run()
    pair.features.unlink()
    with pytest.raises(NotOurs, match="has 0 rows, where the answers to go on from have 7"):
        pair.open()
    assert not pair.features.exists()


@pytest.mark.parametrize("rows", [1, 7])
def test_features_without_their_rows_are_left_as_they_are(pair: Pair, rows: int) -> None:
    pair.run(OUTCOMES[:rows])
    pair.rows.unlink()
    with pytest.raises(NotOurs, match=f"has {rows} rows, where the answers to go on from have 0"):
        pair.run()
    assert pair.features.read_bytes() == npy(WHOLE[:rows])


def test_rows_that_were_taken_out_and_made_again_are_not_taken_for_the_old(pair: Pair) -> None:
    """As docs/offline.md says that errors are tried again: the new rows are at the end."""
    pair.run()
    lines = pair.rows.read_text().splitlines(keepends=True)
    pair.rows.write_text("".join(lines[:1] + lines[2:] + lines[1:2]))
    with pytest.raises(NotOurs, match="its row 1 is of another image"):
        pair.run()


def test_two_runs_do_not_write_to_one_file(pair: Pair, tmp_path: Path) -> None:
    output, features = pair.open()
    other = Output.open(str(tmp_path / "y.jsonl"), JsonRows("echo/1@0", 1))
    with pytest.raises(NotOurs, match="another run"):
        FeatureFile.open(str(pair.features), 3, other)
    with pytest.raises(NotOurs, match="another run"):  # the rows' own file
        FeatureFile.open(str(tmp_path / "y.jsonl"), 3, other)
    for file in (features, output, other):
        file.close()


def test_a_device_is_refused(pair: Pair) -> None:
    pair.features = Path("/dev/null")
    with pytest.raises(NotOurs, match="not a regular file"):
        pair.open()
