"""A real lane, of the bundle that the repository holds."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from io import BytesIO
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.bundles.bundle import load_bundle
from service.lanes.lane import Answer, Lane, LaneLost
from service.lanes.process import ForkedLane, StartedLane, _in_words
from service.lanes.wire import Item
from tests.service.lanes.loading import order, run

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent.parent
DIGITS = ROOT / "models" / "digits" / "1"
OF_LANES_ALONE = ("PIL", "onnxruntime", "openvino")


@pytest.fixture(params=[ForkedLane, StartedLane])
async def lane(request: pytest.FixtureRequest) -> AsyncIterator[Lane]:
    lane, loaded = await Lane.start(request.param, order(DIGITS, engine="onnxruntime", max_pixels=10**6))
    assert loaded.engine == "onnxruntime"
    yield lane
    lane.close()
    await lane.lost
    await asyncio.to_thread(lane.process.ending)


def test_how_a_lane_ended_is_said_in_words() -> None:
    assert _in_words(None) == "it closed its connection"
    assert _in_words(3) == "it exited with 3"
    assert _in_words(-9) == "it was ended by SIGKILL"
    assert _in_words(-40) == "it was ended by signal 40"  # of real time, which have no name


async def logits(lane: Lane, *images: bytes, longest: float = 60) -> np.ndarray:
    answer = await run(lane, [Item(image, 0) for image in images], longest)
    assert all(isinstance(outcome, Answer) for outcome in answer.outcomes)
    return np.stack([np.frombuffer(outcome.answer, np.float32) for outcome in answer.outcomes])  # type: ignore[union-attr]


async def test_it_answers_the_golden_images_as_the_reference_did(lane: Lane) -> None:
    bundle = load_bundle(DIGITS)
    images, expected = bundle.golden()
    for start in range(0, len(images), 3):  # batches of several sizes
        got = await logits(lane, *images[start : start + 3])
        np.testing.assert_allclose(got, expected["logits"][start : start + 3], atol=bundle.tolerances["logits"])
    answer = await run(lane, [Item(images[7], 3)], alone=True)
    (outcome,) = answer.outcomes
    assert isinstance(outcome, Answer)
    best = json.loads(outcome.answer)
    assert [len(best), best[0]["index"], best[0]["label"]] == [3, 7, "7"]
    assert json.loads(outcome.image)["format"] == "PNG"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
async def test_a_lane_that_is_ended_is_lost_and_says_how(lane: Lane, number: signal.Signals) -> None:
    os.kill(lane.process.pid, signal.SIGSTOP)  # so that it cannot have answered before
    # Seconds of work: any thread may take the signal, and the lane's own one goes on while that one writes its stacks.
    large = BytesIO()
    Image.new("RGB", (1000, 1000)).save(large, "PNG")
    batch = asyncio.create_task(logits(lane, *[large.getvalue()] * 400))
    await asyncio.sleep(0)
    os.kill(lane.process.pid, number)
    with suppress(ProcessLookupError):  # SIGKILL ends it as it stands
        os.kill(lane.process.pid, signal.SIGCONT)
    with pytest.raises(LaneLost) as lost:
        await batch
    assert lost.value.reason == "crash"
    assert await asyncio.to_thread(lane.process.ending) == f"it was ended by {number.name}"
    with pytest.raises(LaneLost):
        await logits(lane, b"an image")


async def test_a_lane_that_is_stopped_hangs_and_is_ended(lane: Lane) -> None:
    os.kill(lane.process.pid, signal.SIGSTOP)
    with pytest.raises(LaneLost) as lost:
        await logits(lane, b"an image", longest=0.1)
    assert lost.value.reason == "hang"
    assert await asyncio.to_thread(lane.process.ending) == "it was ended by SIGKILL"


async def test_what_ends_the_front_leaves_its_lanes_to_it(lane: Lane) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # a terminal's and a supervisor's go to whole groups
        os.kill(lane.process.pid, number)
    images, _ = load_bundle(DIGITS).golden()
    assert (await logits(lane, images[7])).argmax() == 7


async def test_a_lane_ends_once_the_front_hangs_up(lane: Lane) -> None:
    lane.close()
    await lane.lost
    assert await asyncio.to_thread(lane.process.ending) == "it exited with 0"


@pytest.mark.parametrize("lane", [ForkedLane], indirect=True)
async def test_the_process_that_lanes_are_forked_from_may_end_too(lane: Lane) -> None:
    images, _ = load_bundle(DIGITS).golden()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    assert (await logits(lane, images[3])).argmax() == 3
    another = None
    while another is None:
        with suppress(OSError):  # the first attempt may be too soon
            another, _ = await Lane.start(ForkedLane, order(DIGITS, engine="onnxruntime", max_pixels=10**6))
    assert (await logits(another, images[4])).argmax() == 4
    another.close()
    await another.lost


def test_the_front_knows_no_decoder_and_no_engine() -> None:
    """It serves a model, and its own process has loaded none of what decodes or passes."""
    program = f"""
import asyncio, sys
import service.app, service.serve
from service.metrics import Metrics
from service.settings import Settings

def loaded():
    return sorted({{module.split(".")[0] for module in sys.modules}} & set({OF_LANES_ALONE!r}))

async def main():
    settings = Settings(models=["digits"], lanes=1, threads=1, engine="onnxruntime")
    replica = service.app.build_replica(settings, Metrics())
    service.app.with_edge(service.app.create_api(replica))
    await replica.start()
    classifier = replica.models.find()
    image = open("models/digits/1/golden/digit-7.png", "rb").read()
    answer = await classifier.classify(image, 1, classifier.promises.ticket(60.0))
    await replica.close()
    return answer.answer.decode()

if __name__ == "__main__":
    print(loaded())
    print(asyncio.run(main()))
    print(loaded())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    before, answer, after = result.stdout.splitlines()
    assert json.loads(answer)[0]["index"] == 7
    assert (before, after) == ("[]", "[]")
