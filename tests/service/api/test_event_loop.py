"""What the event loop does meanwhile: with the largest body of the worst shape, no more than its pieces take."""

import asyncio
import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from service.app import create_api, with_edge
from tests.doubles import EchoEngine, replica_around, started
from tests.service.api.loop_watch import counted_calls
from tests.service.api.v2.messages import INFER

pytestmark = pytest.mark.anyio

SIZE = 16 * 2**20  # MAX_BODY_BYTES
PIECE = 64 * 2**10  # as the server hands them over
OFF_THE_LOOP = {"form.py", "base64_text.py", "json_text.py", "inflate.py", "request.py", "tensors.py", "decoders.py"}
CALLS = 5_000  # some ten for each of 256 pieces

FORM = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'


def filled(start: bytes, filling: bytes, end: bytes) -> bytes:
    """As long as a body may be."""
    return start + filling * ((SIZE - len(start) - len(end)) // len(filling)) + end


FALSE_BOUNDARIES = filled(PART % b"image", b"\r\n--bc", b"\r\n--b--\r\n")
PARTS = filled(b"", PART % b"x" + b"\r\n", b"--b--\r\n")
LINES = filled(PART % b"text", b"\r\n--\r\n", b"\r\n" + PART % b"image" + b"no image\r\n--b--\r\n")
HEADERS = filled(b"--b\r\n", b"a: b\r\n", b"\r\n\r\n--b--\r\n")
PARAMETERS = filled(b"--b\r\nContent-Disposition: form-data", b'; a="', b"\r\n\r\n\r\n--b--\r\n")
BASE64_PART = filled(
    b"--b\r\nContent-Disposition: form-data; name=image\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    b"QUFB\r\n",
    b"\r\n--b--\r\n",
)
ESCAPES = filled(b'{"image": "', b"\\n", b'"}')
WRAPPED = filled(b'{"image": "', b"AAAA" * 19 + b"\\r\\n", b'"}')
BATCH = json.dumps({"images": [*[base64.b64encode(bytes(180_000)).decode()] * 63, "***"]}).encode()
PIXELS = filled(
    b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [64, 8, 8, 3], "data": [[', b"[1,2,3],", b"[0]]]}]}"
)
NUMBERS = b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1], "data": [' + b"1," * 2_400_000 + b"1]}]}"
FILES = filled(b'{"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["', b"QUFB", b'"]}]}')


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        pytest.param("/v1/classify", FORM, FALSE_BOUNDARIES, id="false boundaries"),
        pytest.param("/v1/classify", FORM, PARTS, id="parts"),
        pytest.param("/v1/classify", FORM, LINES, id="lines like boundaries"),
        pytest.param("/v1/classify", FORM, HEADERS, id="headers"),
        pytest.param("/v1/classify", FORM, PARAMETERS, id="parameters of a header"),
        pytest.param("/v1/classify", FORM, BASE64_PART, id="a part in base64"),
        pytest.param("/v1/classify", JSON, ESCAPES, id="JSON of escapes"),
        pytest.param("/v1/classify", JSON, WRAPPED, id="base64 in lines"),
        pytest.param("/v1/classify", JSON, BATCH, id="a batch in JSON"),
        pytest.param(INFER, JSON, PIXELS, id="nested pixels"),
        pytest.param(INFER, JSON, NUMBERS, id="flat pixels"),
        pytest.param(INFER, JSON, FILES, id="a file in JSON"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
async def test_no_body_is_read_on_it(
    path: str, headers: dict[str, str], body: bytes, compressed: bool, tmp_path: Path
) -> None:
    if compressed:
        body, headers = gzip.compress(body, 1), headers | {"content-encoding": "gzip"}
    replica = replica_around(EchoEngine(), tmp_path / "models", deadline_ms=60_000)
    async with started(replica):
        app = with_edge(create_api(replica))
        await ask(app, path, headers, b"{}")  # what is only done once
        called, status = await ask(app, path, headers, body)
    assert status in (400, 415)
    assert not OFF_THE_LOOP & set(called)
    assert len(called) < CALLS


async def ask(app: Any, path: str, headers: dict[str, str], body: bytes) -> tuple[list[str], int]:
    """The functions' files that are called on the event loop until the answer is there, and its status."""
    pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "http_version": "1.1", "scheme": "http", "root_path": "", "state": {},
    }  # fmt: skip
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    with counted_calls() as called:
        await app(scope, receive, send)
    return called, statuses[0]


async def test_the_file_of_keys_is_not_looked_at_on_it(tmp_path: Path) -> None:
    lines = (f"{hashlib.sha256(b'%d' % number).hexdigest()} rate=5\n" for number in range(20_000))
    (tmp_path / "keys").write_text("".join(lines))
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=tmp_path / "keys")
    async with started(replica):
        app = with_edge(create_api(replica))
        (tmp_path / "keys").write_text("unusable")
        called, status = await ask(app, "/v1/classify", {"x-api-key": "19999"}, b"no image")
    assert status == 415
    assert called.count("api_keys.py") == 3  # check, find, take
