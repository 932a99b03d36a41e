import hashlib
import logging
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from service.api import api_keys
from service.api.api_keys import ApiKeys
from service.errors import RateLimited, Unauthorized
from service.metrics import Metrics
from tests.doubles import EchoEngine, level_png, replica_around
from tests.service.api.loop_watch import counted_calls
from tests.service.replicas import Upload, client_of, outcomes


def digest(key: str | bytes) -> str:
    """As `printf %s "$KEY" | sha256sum` gives it."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


class Door:
    """Keys in a file, and a clock that the test turns."""

    def __init__(self, file: Path, content: str) -> None:
        self.file = file
        self.time = 100.0
        self.metrics = Metrics()
        file.write_text(content)
        self.keys = ApiKeys(file, self.metrics, now=lambda: self.time)

    def ask(self, key: str | bytes, header: bytes = b"x-api-key") -> None:
        value = key.encode() if isinstance(key, str) else key
        self.keys.check({"headers": [(header, value)]})

    def accepts(self, key: str | bytes, header: bytes = b"x-api-key") -> bool:
        try:
            self.ask(key, header)
        except Unauthorized:
            return False
        return True

    def counted(self, key: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("mixer_key_requests_total", {"key": key, "outcome": outcome})


def test_without_a_file_everybody_is_let_in() -> None:
    ApiKeys(None, Metrics()).check({"headers": []})


@pytest.mark.parametrize("key", ["open sesame", "Zürich-ключ-鍵", "voilà", b"\xff\xfe raw", "a" * 5000])
def test_a_key_of_any_bytes(tmp_path: Path, key: str | bytes) -> None:
    door = Door(tmp_path / "keys", f"# clients\n\n  {digest(key).upper()}\n")
    assert door.accepts(key)
    prefix = b"bearer "
    assert door.accepts(prefix + (key.encode() if isinstance(key, str) else key), b"authorization")
    assert not door.accepts("other")
    assert not door.accepts("")
    assert not door.accepts(digest(key))
    assert not door.accepts(b"Basic " + b"open sesame", b"authorization")


def test_requests_are_counted_by_the_keys_names(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", f"{digest('a')} mobile-app\n{digest('b')}\n")
    assert door.counted("mobile-app", "ok") == 0
    for key in ("a", "b", "b", "wrong"):
        door.accepts(key)
    assert door.counted("mobile-app", "ok") == 1
    assert door.counted("key-2", "ok") == 2
    assert door.counted("unknown", "unauthorized") == 1


def test_a_rate_lets_a_burst_through_and_then_so_many_a_second(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", f"{digest('a')} app rate=0.5 burst=3\n{digest('b')}")
    for _ in range(3):
        door.ask("a")
    with pytest.raises(RateLimited) as refused:
        door.ask("a")
    assert (refused.value.status, refused.value.reason, refused.value.retry_after) == (429, "rate_limit", 2)
    door.ask("b")  # which has a bucket of its own: none
    door.time += 2
    door.ask("a")
    with pytest.raises(RateLimited):
        door.ask("a")
    assert (door.counted("app", "ok"), door.counted("app", "rate_limited")) == (4, 2)


def test_without_a_burst_a_seconds_worth_may_come_at_once(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", f"{digest('a')} rate=5")
    for _ in range(5):
        door.ask("a")
    with pytest.raises(RateLimited):
        door.ask("a")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", digest("old"))
    door.file.write_text(f"{digest('new')} and-a-name\n")
    door.keys.look()
    assert not door.accepts("old")
    assert door.accepts("new")


def test_a_replaced_link_is_followed(tmp_path: Path) -> None:
    """As a Kubernetes secret is changed: keys -> ..data/keys, ..data -> another folder, swapped in one step."""
    for folder, key in (("first", "old"), ("second", "new")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys").write_text(digest(key))
    (tmp_path / "..data").symlink_to("first")
    file = tmp_path / "keys"
    file.symlink_to("..data/keys")
    keys = ApiKeys(file, Metrics())
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").replace(tmp_path / "..data")
    keys.look()
    keys.check({"headers": [(b"x-api-key", b"new")]})
    with pytest.raises(Unauthorized):
        keys.check({"headers": [(b"x-api-key", b"old")]})


def test_a_changed_file_is_read_in_a_thread_of_its_own_and_nobody_has_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.api_keys._LOOK_EVERY", 0.01)
    door = Door(tmp_path / "keys", digest("old"))
    readers: queue.Queue[int] = queue.Queue()

    def noted(*arguments: Any) -> Any:
        keys = read(*arguments)
        readers.put(threading.get_ident())
        return keys

    read = api_keys._read
    monkeypatch.setattr("service.api.api_keys._read", noted)
    door.file.write_text(f"{digest('new')} app\n")
    assert readers.get(timeout=30) != threading.get_ident()
    door.keys.look()  # waits for whoever looks
    assert door.accepts("new")


def test_nobody_looks_at_the_file_of_keys_that_are_not_asked_for_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.api_keys._LOOK_EVERY", 0.01)
    before = set(threading.enumerate())
    (tmp_path / "keys").write_text(digest("a"))
    keys = ApiKeys(tmp_path / "keys", Metrics())
    (follower,) = set(threading.enumerate()) - before
    del keys
    follower.join(timeout=30)
    assert not follower.is_alive()


def test_keys_that_are_gone_leave_no_series(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", f"{digest('a')} app\n{digest('b')} gone\n")
    door.ask("a")
    door.ask("b")
    door.file.write_text(f"{digest('a')} app\n{digest('c')} new\n")
    door.keys.look()
    assert [door.counted(name, "ok") for name in ("app", "gone", "new")] == [1, None, 0]
    assert door.counted("gone", "rate_limited") is None


def test_what_a_key_costs_does_not_grow_with_their_number(tmp_path: Path) -> None:
    """Reading takes so many steps a line, and a look-up the same number whatever the file holds."""

    def steps(count: int) -> tuple[int, int]:
        lines = "".join(f"{digest(str(number))} app-{number} rate=5\n" for number in range(count))
        with counted_calls() as reading:
            door = Door(tmp_path / "keys", lines)
        with counted_calls() as asking:
            assert door.accepts("7")
        return len(reading), len(asking)

    few, many = steps(200), steps(2000)
    assert many[0] < 11 * few[0]
    assert many[1] == few[1]


@pytest.mark.parametrize(
    ("printed", "names"),
    [
        ("{a}  -\n{b}  -\n", ["key-1", "key-2"]),
        ("{a}  app.key\n{b}  other_app\n", ["app.key", "other_app"]),
        ("{a}  /etc/keys/mobile app.txt\n{b} *C:\\keys\\b\n", ["etc-keys-mobile-app.txt", "C-keys-b"]),
        ("{a}  key.txt\n{b}  key.txt\n", ["key.txt", "key.txt-2"]),
        ("\\{a}  a\\nb\n{b}  鍵\n", ["a-nb", "key-2"]),
        ("{a}  unknown\n{b} *-\n", ["key-1", "key-2"]),
        ("{a}  - rate=5\n{b} app rate=5\n", ["key-1", "app"]),
        ("{a}  " + "n" * 99 + "\n{b}  " + "n" * 99 + "\n", ["n" * 64, "n" * 50 + "-2"]),
    ],
)
def test_lines_as_sha256sum_prints_them(tmp_path: Path, printed: str, names: list[str]) -> None:
    door = Door(tmp_path / "keys", printed.format(a=digest("a"), b=digest("b")))
    for key, name in zip("ab", names, strict=True):
        door.ask(key)
        assert door.counted(name, "ok") == 1


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not there")
def test_what_sha256sum_itself_prints(tmp_path: Path) -> None:
    (tmp_path / "my key.txt").write_text("a")
    (tmp_path / "other").write_text("b")
    printed = subprocess.run(
        ["sha256sum", "my key.txt", "other"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    printed += subprocess.run(["sha256sum"], input="c", capture_output=True, text=True, check=True).stdout
    door = Door(tmp_path / "keys", printed)
    for key, name in (("a", "my-key.txt"), ("b", "other"), ("c", "key-3")):
        door.ask(key)
        assert door.counted(name, "ok") == 1


@pytest.mark.parametrize("content", ["", "# all gone\n", "a secret that nobody hashed\n", None])
def test_a_file_that_becomes_unusable_changes_nothing_and_is_reported(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(tmp_path / "keys", digest("a"))
    if content is None:
        door.file.unlink()
    else:
        door.file.write_text(content)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            door.keys.look()
            assert door.accepts("a")
            assert not door.accepts("b")
    (record,) = caplog.records
    assert "MIXER_API_KEYS_FILE" in record.getMessage()
    assert "secret" not in record.getMessage()
    door.file.write_text(digest("b"))
    door.keys.look()
    assert door.accepts("b")


def test_a_change_of_the_file_fills_no_bucket(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", f"{digest('a')} rate=1 burst=2")
    door.ask("a")
    door.ask("a")
    door.file.write_text(f"{digest('a')} renamed rate=0.1 burst=2")
    door.keys.look()
    door.time += 1
    with pytest.raises(RateLimited):
        door.ask("a")
    assert door.counted("renamed", "rate_limited") == 1


@pytest.mark.parametrize(
    "line",
    [
        "secret",
        digest("a")[:-1],
        f"{digest('a')} two names",
        f"{digest('a')} name/slash",
        f"{digest('a')} unknown",
        f"{digest('a')} {'n' * 65}",
        f"{digest('a')} rate=0",
        f"{digest('a')} rate=-1",
        f"{digest('a')} rate=nan",
        f"{digest('a')} rate=secret",
        f"{digest('a')} burst=5",
        f"{digest('a')} speed=5",
        f"{digest('a')} one\n{digest('a')} two",
        f"{digest('a')} one\n{digest('b')} one",
        "# nothing\n",
        "",
    ],
)
def test_an_unusable_file_is_refused_at_start_without_quoting_it(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="MIXER_API_KEYS_FILE") as refused:
        Door(tmp_path / "keys", line)
    assert "secret" not in str(refused.value)
    assert digest("a")[:10] not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MIXER_API_KEYS_FILE .*nowhere: No such file"):
        ApiKeys(tmp_path / "nowhere", Metrics())


def test_the_setting_to_blame_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MIXER_ADMIN_KEYS_FILE"):
        ApiKeys(tmp_path / "nowhere", Metrics(), "MIXER_ADMIN_KEYS_FILE")


@pytest.mark.anyio
async def test_api_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# clients\n\n{hashlib.sha256(b'open sesame').hexdigest()}\n")
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    async with client_of(replica) as client:
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Basic open sesame"}):
            response = await client.post("/v1/classify", content=level_png(1), headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
        for headers in ({"x-api-key": "open sesame"}, {"authorization": "Bearer open sesame"}):
            assert (await client.post("/v1/classify", content=level_png(1), headers=headers)).status_code == 200
        assert (await client.get("/healthz/ready")).status_code == 200
    assert outcomes(replica) == {"ok": 2}


@pytest.mark.anyio
async def test_a_key_beyond_its_rate_is_told_when_to_return_and_takes_no_room(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'slow').hexdigest()} app rate=0.001 burst=1\n")
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    async with client_of(replica) as client:
        headers = {"x-api-key": "slow"}
        assert (await client.post("/v1/classify", content=level_png(1), headers=headers)).status_code == 200
        refused = await client.post("/v1/classify", content=level_png(1), headers=headers)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "rate_limit")
        assert 990 <= int(refused.headers["retry-after"]) <= 1000
    assert outcomes(replica) == {"ok": 1}


@pytest.mark.anyio
async def test_a_stranger_takes_no_room_and_has_no_body_read(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(hashlib.sha256(b"open sesame").hexdigest())
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    upload = Upload()
    async with client_of(replica) as client:
        response = await client.post("/v1/classify", content=upload, headers={"x-api-key": "wrong"})
    assert response.status_code == 401
    assert not upload.begun
    echo = {"model": "echo", "version": "1"}
    assert replica.metrics.registry.get_sample_value("mixer_admitted_images_total", echo) == 0
