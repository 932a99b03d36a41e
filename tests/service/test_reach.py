"""No name that a client makes up reaches the file system or the network."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.doubles import level_png

pytestmark = pytest.mark.anyio


_watched: list[tuple[str, list[str]]] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    for name, seen in _watched:
        if event in ("open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo") and name in str(
            arguments
        ):
            seen.append(f"{event} {arguments}")


sys.addaudithook(_watch)  # for as long as Python runs, and idle unless a test watches


@contextmanager
def reached(name: str) -> Iterator[list[str]]:
    """What files and addresses with that name are opened within the block."""
    _watched.append((name, []))
    try:
        yield _watched[-1][1]
    finally:
        _watched.pop()


def test_what_is_opened_is_seen(tmp_path: Path) -> None:
    with reached("seen") as names:
        (tmp_path / "seen").write_text("")
    assert names


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "echo/1",
        "echo%00",
        "http://127.0.0.1:9000/",
        "a" * 5000,
    ],
)
async def test_a_models_name_is_looked_up_and_never_opened(client: httpx.AsyncClient, name: str) -> None:
    with reached(name) as names:
        for parameters in ({"model": name}, {"version": name}):
            response = await client.post("/v1/classify", content=level_png(1), params=parameters)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_model")
        assert (await client.get(f"/v2/models/{name}/config")).status_code == 404
    assert not names


@pytest.mark.parametrize("path", ["/page/..%2fsettings.py", "/page/../settings.py", "/page/%2fetc%2fpasswd"])
async def test_the_page_has_its_own_files_and_no_others(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404
