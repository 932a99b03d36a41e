"""Clients that are awkward, at the real service: they send what is refused, offer upgrades, leave things half done."""

import gzip
import hashlib
import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import GOLDEN, ServiceProcess, running_service

IMAGE = GOLDEN / "digit-7.png"
LIMIT = 1_000_000
PATIENT = ("--deadline-ms", "60000", "--latency-target-ms", "60000")  # a busy machine is no reason to refuse


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service("--max-body-bytes", str(LIMIT), *PATIENT) as service:
        yield service


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "body"
    path.write_bytes(bytes(12 * LIMIT))
    return path


def curl(*arguments: str) -> str:
    program = shutil.which("curl")
    if not program:
        pytest.skip("curl is missing")
    command = [program, "--silent", "--show-error", "--max-time", "30", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def connect(service: ServiceProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("expect", [False, True], ids=["at once", "expecting 100"])
def test_curl_sees_why_its_upload_is_refused(service: ServiceProcess, large: Path, chunked: bool, expect: bool) -> None:
    headers = ["-H", "Transfer-Encoding: chunked"] * chunked + ["-H", "Expect:"] * (not expect)
    for _ in range(10):
        answer = curl("--data-binary", f"@{large}", *headers, f"{service.url}/v1/classify")
        assert json.loads(answer)["error"]["code"] == "payload_too_large"


def test_a_client_that_reads_only_after_it_has_sent_all_sees_why_it_is_refused(
    service: ServiceProcess, large: Path
) -> None:
    """Python's own, for one, as below `requests`."""
    for _ in range(10):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("POST", "/v1/classify", large.read_bytes())
        response = connection.getresponse()
        assert (response.status, response.getheader("connection")) == (413, "close")
        assert json.load(response)["error"]["reason"] == "body_bytes"
        connection.close()


def test_nobody_sends_a_body_for_nothing(service: ServiceProcess, tmp_path: Path) -> None:
    """`100 Continue` comes when the body is read, and so not to who is refused before."""

    def status(service: ServiceProcess, *headers: str) -> int:
        with connect(service) as connection:
            lines = ["POST /v1/classify HTTP/1.1", "host: x", "expect: 100-continue", *headers, "", ""]
            connection.sendall("\r\n".join(lines).encode())
            return int(connection.recv(65536).split()[1])

    assert status(service, "content-length: 1000") == 100
    assert status(service, f"content-length: {LIMIT + 1}") == 413
    assert status(service, "content-length: 10", "accept: text/html") == 406
    keys = tmp_path / "keys"
    keys.write_text(hashlib.sha256(b"key").hexdigest())
    with running_service("--api-keys-file", str(keys), *PATIENT) as guarded:
        assert status(guarded, "content-length: 10") == 401
        assert status(guarded, "content-length: 10", "x-api-key: key") == 100
        assert status(guarded, "content-length: 10", "x-api-key: key", "x-deadline-ms: 0.001") == 429


def test_an_upload_that_stalls_ends_with_the_deadline(service: ServiceProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("POST", "/v1/classify", b"abc", {"content-length": "1000", "x-deadline-ms": "2000"})
    response = connection.getresponse()
    assert (response.status, json.load(response)["error"]["code"]) == (504, "deadline_exceeded")
    connection.close()


def test_the_time_that_inflating_takes_is_told_of_a_body_that_came_with_its_head(service: ServiceProcess) -> None:
    body = gzip.compress(IMAGE.read_bytes())
    head = f"Host: x\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(service) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\n" + head.encode() + body)
        answer = json.loads(read_to_end(connection).partition(b"\r\n\r\n")[2])
    assert answer["predictions"][0]["label"] == "7"
    assert answer["timing_ms"]["receive"] > 0


def test_chunked_uploads_and_pipelined_requests(service: ServiceProcess) -> None:
    image = IMAGE.read_bytes()
    pieces = [image[start : start + 100] for start in range(0, len(image), 100)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    request = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunked
    last = b"GET /healthz/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with connect(service) as connection:
        connection.sendall(request * 5 + last)
        answers = read_to_end(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 6
    assert answers.count(b'"predictions":[{"index":7,') == 5
    assert answers.endswith(b'{"status":"live"}')


def test_javas_client_offers_an_upgrade_and_is_served(service: ServiceProcess, tmp_path: Path) -> None:
    program = tmp_path / "Post.java"
    program.write_text("""
        import java.net.URI; import java.net.http.*; import java.nio.file.*;
        public class Post { public static void main(String[] arguments) throws Exception {
            var body = HttpRequest.BodyPublishers.ofFile(Path.of(arguments[1]));
            var request = HttpRequest.newBuilder(URI.create(arguments[0])).POST(body).build();
            var response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            System.out.print(response.body()); } }
    """)
    if not shutil.which("javac"):
        pytest.skip("a JDK is missing")
    command = ["java", str(program), f"{service.url}/v1/classify", str(IMAGE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert json.loads(result.stdout)["predictions"][0]["label"] == "7", result.stderr


def test_head_is_get_without_its_body(service: ServiceProcess) -> None:
    for path in ("/healthz/live", "/healthz/ready", "/docs", "/docs/swagger-ui.css", "/v2/models/digits/config"):
        head = curl("--head", service.url + path)
        assert head.startswith("HTTP/1.1 200 OK")
        assert "content-length: 0" not in head.lower()


def test_what_is_not_http_gets_json(service: ServiceProcess) -> None:
    with connect(service) as connection:
        connection.sendall(b"hello\r\n\r\n")
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(body) == {
        "error": {"code": "malformed_request", "message": "this is not HTTP/1.1", "reason": "http"}
    }


def test_who_is_refused_while_sending_does_not_keep_the_service_from_stopping(large: Path) -> None:
    with running_service("--max-body-bytes", str(LIMIT), "--drain-seconds", "0", *PATIENT) as service:
        with connect(service) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 12000000\r\n\r\nabc")
            assert connection.recv(12) == b"HTTP/1.1 413"
            service.terminate()
            assert service.wait_for("stopped")["lost_images"] == 0
        assert service.process.wait(timeout=30) == 0
