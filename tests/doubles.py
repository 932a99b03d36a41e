"""Engines with an obvious answer, and what is needed to put a replica around them."""

import hashlib
import io
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from service.app import build_replica
from service.arrays import FEATURES, LOGITS, FeatureBatch, LogitBatch, Outputs, PixelBatch
from service.bundles.manifest import Manifest
from service.lanes.program import serve
from service.metrics import Metrics
from service.models.replica import Replica
from service.settings import Settings

CLASSES = 256
SIDE = 4


class EchoEngine:
    """The top class of an image is its mean level: any mix-up of answers shows."""

    name = "echo"

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def run(self, pixels: PixelBatch) -> LogitBatch:
        self.batch_sizes.append(len(pixels))
        return np.eye(CLASSES, dtype=np.float32)[mean_levels(pixels)] * 20

    def outputs(self, pixels: PixelBatch) -> Outputs:
        return {LOGITS: self.run(pixels), FEATURES: features_of(mean_levels(pixels))}


class HeadlessEngine(EchoEngine):
    """Echoes in its features, which are all that it gives."""

    def run(self, pixels: PixelBatch) -> FeatureBatch:
        return self.outputs(pixels)[FEATURES]

    def outputs(self, pixels: PixelBatch) -> Outputs:
        self.batch_sizes.append(len(pixels))
        return {FEATURES: features_of(mean_levels(pixels))}


class GatedEngine(EchoEngine):
    """Echoes, but every pass waits until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)  # released once for every pass that has begun

    def run(self, pixels: PixelBatch) -> LogitBatch:
        self.entered.release()
        assert self.gate.wait(timeout=30), "the test never opened the gate"
        return super().run(pixels)


class FailingEngine(EchoEngine):
    """Echoes, but fails on any pass that holds a poisoned image (level 66)."""

    poison = 66
    broken = False  # when set, fails on everything

    def run(self, pixels: PixelBatch) -> LogitBatch:
        if self.broken or (pixels == self.poison).all(axis=(1, 2, 3)).any():
            raise RuntimeError("poisoned: a secret that no client may read")
        return super().run(pixels)


def mean_levels(pixels: PixelBatch) -> np.ndarray:
    """Of each image, [N]."""
    levels: np.ndarray = pixels.reshape(len(pixels), -1).mean(axis=1).round().astype(int)
    return levels


def features_of(levels: np.ndarray | list[int]) -> FeatureBatch:
    """What the doubles make of images of these levels: the level itself, less 100, and a third of it."""
    level = np.asarray(levels, np.float32)
    return np.stack([level, level - 100, level / 3], axis=1)


def level_pixels(level: int) -> np.ndarray:
    """Pixels of one image whose every value is `level`."""
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def level_png(level: int, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A PNG whose every value is `level`."""
    return encode(Image.new("RGB", size, (level, level, level)), "PNG")


def encode(image: Image.Image, format_: str, **options: object) -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, {"HEIC": "HEIF"}.get(format_, format_), **options)
    return file.getvalue()


def write_bundle(
    repository: Path, name: str = "echo", version: str = "1", *, features: bool = False, head: bool = True
) -> Path:
    """A complete bundle whose golden logits are EchoEngine's, and if it has them its features; or HeadlessEngine's."""
    path = repository / name / version
    (path / "golden").mkdir(parents=True)
    files = {
        "model.onnx": b"not read by a double",
        "golden/dark.png": level_png(10),
        "golden/light.png": level_png(200),
    }
    if head:
        files["labels.txt"] = "".join(f"level {level}\n" for level in range(CLASSES)).encode()
        files["golden/logits.npy"] = npy(np.eye(CLASSES, dtype=np.float32)[[10, 200]] * 20)
    if features:
        files["golden/features.npy"] = npy(features_of([10, 200]))
    parity = {
        "reference": "itself",
        "images": 2,
        "batch_sizes": [1],
        "max_abs_error": 0,
        "cosine": 1,
        "gate": {"max_abs_error": 1e-4},
        "passed": True,
    }
    of_features = {"size": 3, "golden": "golden/features.npy", "tolerance": 1e-3, "parity": [parity]}
    for relative, data in files.items():
        (path / relative).write_bytes(data)
    manifest = Manifest(
        schema_version=1,
        name=name,
        version=version,
        task="image-classification" if head else "image-feature-extraction",
        variant="echo/4",
        patch=SIDE,
        image_size=SIDE,
        classes=CLASSES if head else 0,
        parameters=1,
        gmacs=1e-9,
        gelu="erf",
        layer_norm_eps=1e-6,
        precision="fp32",
        preprocessing={
            "resize_short": SIDE,
            "interpolation": "bicubic",
            "crop": SIDE,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        },
        labels="labels.txt" if head else None,
        source={"kind": "double", "reference": "none", "sha256": "0" * 64},
        parity=parity | {"top1_agreement": 1} if head else None,
        features=of_features if features else None,
        golden={"images": ["golden/dark.png", "golden/light.png"]}
        | ({"logits": "golden/logits.npy", "tolerance": 1e-3} if head else {}),
        files={relative: hashlib.sha256(data).hexdigest() for relative, data in files.items()},
        tools={},
    )
    (path / "manifest.json").write_text(manifest.model_dump_json())
    return path


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of a file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class ThreadLanes:
    """Starts lanes as threads of this process, around an engine of the test's; see `service.lanes.process`."""

    def __init__(self, engine: EchoEngine) -> None:
        self.engine = engine
        self.started: list[ThreadLane] = []

    def __call__(self, connection: socket.socket) -> "ThreadLane":
        lane = ThreadLane(connection, self.engine)
        self.started.append(lane)
        return lane


class ThreadLane:
    """A lane whose process is a thread: to kill it is to cut its connection."""

    pid = 0

    def __init__(self, connection: socket.socket, engine: EchoEngine) -> None:
        self._connection = connection
        threading.Thread(target=self._serve, args=(engine,), daemon=True).start()

    def _serve(self, engine: EchoEngine) -> None:
        with suppress(OSError), self._connection:
            serve(self._connection, lambda *_: {"double": lambda: engine})

    def kill(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def ending(self) -> str:
        return "the test ended it"


def replica_around(engine: EchoEngine, repository: Path, **settings: object) -> Replica:
    """A replica that runs `engine`, in one lane unless `settings` say otherwise; `started` loads it."""
    if not repository.exists():
        write_bundle(repository)
    chosen = {"lanes": 1, "threads": 1} | settings
    return build_replica(Settings(model_repository=repository, **chosen), Metrics(), ThreadLanes(engine))


@asynccontextmanager
async def started(replica: Replica) -> AsyncIterator[Replica]:
    """The replica serves for the length of the block; a GatedEngine's gate is open while it loads, then shut."""
    spawn = replica.loader.spawn
    engine = spawn.engine if isinstance(spawn, ThreadLanes) else None
    if isinstance(engine, GatedEngine):
        engine.gate.set()
    await replica.start()
    replica.loop_lag.stop()  # whatever else this machine does
    if engine:
        engine.batch_sizes.clear()
    if isinstance(engine, GatedEngine):
        engine.gate.clear()
        engine.entered = threading.Semaphore(0)
    try:
        yield replica
    finally:
        if isinstance(engine, GatedEngine):
            engine.gate.set()
        await replica.close()
