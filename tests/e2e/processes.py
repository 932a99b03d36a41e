"""The real service as a process of its own, on ports the kernel chose."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

import httpx

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "models" / "digits" / "1" / "golden"
ONE_ENGINE = {"MIXER_ENGINE": "onnxruntime"}


@dataclass
class ServiceProcess:
    process: subprocess.Popen[str]
    lines: Queue[str]
    port: int = 0
    metrics_port: int = 0
    log: list[dict[str, object]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next_line(self) -> dict[str, object]:
        line = self.lines.get(timeout=60)
        assert line, f"the service ended with {self.process.wait()}: {self.log}"
        self.log.append(json.loads(line))
        return self.log[-1]

    def wait_for(self, message: str) -> dict[str, object]:
        while not str(self.next_line()["message"]).startswith(message):
            pass
        return self.log[-1]

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def lanes(self) -> list[int]:
        """The processes of the lanes: children of the one that they are forked from, which is the front's."""
        return [lane for child in children(self.process.pid) for lane in children(child)]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def children(pid: int) -> list[int]:
    """Whichever of its threads started them."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def add_digits(repository: Path, version: str = "1", name: str = "digits") -> Path:
    """A copy of the committed bundle that labels digit 7 as `name/version 7`.

    It appears under its name as a whole, as an export's does.
    """
    staging, bundle = repository / f".{name}-{version}", repository / name / version
    shutil.copytree(GOLDEN.parent, staging)
    labels = "".join(f"{name}/{version} {digit}\n" for digit in range(10))
    (staging / "labels.txt").write_text(labels)
    manifest = json.loads((staging / "manifest.json").read_text())
    files = manifest["files"] | {"labels.txt": hashlib.sha256(labels.encode()).hexdigest()}
    (staging / "manifest.json").write_text(json.dumps(manifest | {"name": name, "version": version, "files": files}))
    bundle.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(bundle)
    return bundle


@contextmanager
def running_service(*flags: str, listening: bool = True, module: str = "service") -> Iterator[ServiceProcess]:
    """Start `python -m service`, or another `module` of its kind, on the committed bundle and wait until it listens.

    It has one engine, since to measure both takes longer than the rest of a start, unless `flags` say otherwise.
    It is killed if the test leaves it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MIXER_")} | ONE_ENGINE,
    )
    service = ServiceProcess(process, Queue())
    assert process.stderr is not None
    stderr = process.stderr

    def read() -> None:
        for line in stderr:
            service.lines.put(line)
        service.lines.put("")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        if listening:
            line = service.wait_for("listening")
            service.port, service.metrics_port = int(str(line["port"])), int(str(line["metrics_port"]))
        yield service
    finally:
        process.kill()
        process.wait()
        reader.join()
        stderr.close()
