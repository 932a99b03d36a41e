"""The real service among clients that mean it harm: images made to hurt, hostile headers, strangers."""

import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import GOLDEN, ROOT, ServiceProcess, running_service
from tests.hostile_images import Hostile, corpus

DIGIT = (GOLDEN / "digit-7.png").read_bytes()
PATIENT = {"x-deadline-ms": "60000"}  # a slow machine is not what is tested
KEY = "Schlüssel-ключ"


def peak_bytes(process: subprocess.Popen[str]) -> int:
    """The most memory that it ever had resident."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes) * 1024


@contextmanager
def good_client(service: ServiceProcess) -> Iterator[list[object]]:
    """Sends a digit again and again until the block ends; yields what it was answered, None for the right label."""
    answers: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60, headers=PATIENT) as client:
            while not stop.is_set():
                response = client.post(f"{service.url}/v1/classify", content=DIGIT)
                right = response.status_code == 200 and response.json()["predictions"][0]["label"] == "7"
                answers.append(None if right else response.text)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak memory from /proc")
def test_images_made_to_hurt_are_refused_within_bounds_and_hurt_nobody() -> None:
    with running_service() as service, httpx.Client(timeout=60, headers=PATIENT) as client:

        def post(hostile: Hostile) -> tuple[str, int, str]:
            response = client.post(f"{service.url}/v1/classify", content=hostile.data)
            return hostile.name, response.status_code, response.text

        images = corpus()
        with good_client(service) as answers, ThreadPoolExecutor(4) as pool:
            results = list(pool.map(post, images))
            assert httpx.get(f"{service.url}/healthz/live").status_code == 200
        wrong = [
            (result, image.expected)
            for result, image in zip(results, images, strict=True)
            if result[1] not in image.expected
        ]
        assert not wrong
        assert answers
        assert set(answers) == {None}
        assert peak_bytes(service.process) < 700 * 2**20, "a third of which it had before the first image"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with one key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{hashlib.sha256(KEY.encode()).hexdigest()}  mobile-app\n")
    with running_service("--api-keys-file", str(keys), "--debug", "--log-requests", "all") as service:
        yield service


def raw_request(service: ServiceProcess, head: bytes, body: bytes = b"") -> bytes:
    """What comes back for bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head + body)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    return answer


HOSTILE_VALUES = {
    "ansi": b"\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "newline": b'one","level":"ERROR"\\n{"forged": 1}',
    "line separators": "\u2028\u2029\x85".encode(),
    "not utf-8": b"\xff\xfe\x80",
    "format": b"%s%n{0}{self.__class__}${jndi:ldap://x}",
    "long": b"a" * 30_000,
}


@pytest.mark.parametrize("value", HOSTILE_VALUES.values(), ids=HOSTILE_VALUES.keys())
def test_log_lines_stay_json_and_hold_neither_keys_nor_images_nor_what_a_client_made_up(
    guarded: ServiceProcess, value: bytes
) -> None:
    names = [b"x-request-id", b"user-agent", b"referer", b"x-forwarded-for", b"x-deadline-ms", b"x-api-key"]
    for name in names:
        given = [(name, value)] if name == b"x-api-key" else [(name, value), (b"x-api-key", KEY.encode())]
        lines = b"".join(key + b": " + text + b"\r\n" for key, text in given)
        length = b"content-length: %d\r\n" % len(DIGIT)
        answer = raw_request(
            guarded, b"POST /v1/classify HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + lines + length + b"\r\n", DIGIT
        )
        status = int(answer.split()[1])
        assert status in (200, 400, 401, 431)
        assert value not in answer
    for line in lines_until_now(guarded):  # each was parsed as JSON
        text = json.dumps(line, ensure_ascii=False)
        assert len(text) < 2000
        assert KEY not in text
        assert "\x1b" not in text
        assert "jndi" not in text
        assert "forged" not in text
        assert "PNG" not in text


def lines_until_now(service: ServiceProcess) -> list[dict[str, object]]:
    """Those of the log that nobody has read yet."""
    marker = uuid.uuid4().hex
    httpx.get(f"{service.url}/nowhere", headers={"x-request-id": marker})
    start = len(service.log)
    while service.next_line().get("request_id") != marker:
        pass
    return service.log[start:]


def test_a_broken_form_is_a_line_like_any_other(guarded: ServiceProcess) -> None:
    headers = {"x-api-key": KEY.encode(), "content-type": "multipart/form-data; boundary=x"}
    for form in (DIGIT, b"--x--\r\n" + DIGIT):
        assert httpx.post(f"{guarded.url}/v1/classify", content=form, headers=headers).status_code == 400
    lines = {(line["name"], line["level"]) for line in lines_until_now(guarded)}
    assert lines == {("service.edge.request_log", "INFO")}


def test_a_head_of_100_kb_is_refused_and_harms_nobody(guarded: ServiceProcess) -> None:
    answer = raw_request(
        guarded,
        b"GET /healthz/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n",
    )
    assert not answer or int(answer.split()[1]) in (200, 400, 431)
    assert httpx.get(f"{guarded.url}/healthz/live").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/classify"), ("GET", "/v2/models/digits/config"), ("GET", "/debug/passes")],
)
def test_strangers_are_refused_wherever_work_or_knowledge_is(guarded: ServiceProcess, method: str, path: str) -> None:
    for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer nothing"}):
        response = httpx.request(method, guarded.url + path, headers=headers, content=DIGIT)
        assert response.status_code == 401
    key = {"authorization": b"Bearer " + KEY.encode()}
    assert httpx.request(method, guarded.url + path, headers=key, content=DIGIT).status_code == 200


def test_a_strangers_large_body_is_not_taken_in(guarded: ServiceProcess) -> None:
    before = guarded.metrics()["process_resident_memory_bytes"]
    response = httpx.post(f"{guarded.url}/v1/classify", content=bytes(15_000_000))
    assert response.status_code == 401
    after = guarded.metrics()
    assert after["process_resident_memory_bytes"] - before < 10_000_000
    assert after["mixer_inflight_images"] == 0


def test_probes_and_metrics_need_no_key_and_requests_are_counted_by_key(guarded: ServiceProcess) -> None:
    for path in ("/healthz/live", "/healthz/ready"):
        assert httpx.get(guarded.url + path).status_code == 200
    before = guarded.metrics()['mixer_key_requests_total{key="mobile-app",outcome="ok"}']
    httpx.post(f"{guarded.url}/v1/classify", content=DIGIT, headers={"x-api-key": KEY.encode()})
    httpx.post(f"{guarded.url}/v1/classify", content=DIGIT)
    after = guarded.metrics()
    assert after['mixer_key_requests_total{key="mobile-app",outcome="ok"}'] == before + 1
    assert after['mixer_key_requests_total{key="unknown",outcome="unauthorized"}'] >= 1


@pytest.mark.parametrize(
    ("setting", "value", "blamed"),
    [
        ("MIXER_API_KEYS_FILE", "", "MIXER_API_KEYS_FILE: it is empty"),
        ("MIXER_API_KEYS_FILE", "/nowhere/keys", "MIXER_API_KEYS_FILE /nowhere/keys: No such file"),
        ("MIXER_MODEL_REPOSITORY", "", "MIXER_MODEL_REPOSITORY: it is empty"),
        ("MIXER_MODEL_REPOSITORY", "/nowhere", "MIXER_MODEL_REPOSITORY /nowhere: no such model repository"),
        ("MIXER_MODELS", " , ", "MIXER_MODELS: ' , ' names nothing"),
        ("MIXER_HOST", "no such host", "MIXER_HOST no such host: "),
        ("MIXER_HOST", "192.0.2.1", "MIXER_HOST 192.0.2.1: Cannot assign requested address"),
        ("MIXER_HOST", "a" * 300, "MIXER_HOST " + "a" * 300),
    ],
)
def test_a_start_that_cannot_succeed_names_the_setting_to_blame(setting: str, value: str, blamed: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "", "MIXER_PORT": "0", "MIXER_METRICS_PORT": "0", setting: value},
    )  # fmt: skip
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert f"mixer-serve: {blamed}" in result.stderr
