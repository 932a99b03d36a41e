import hashlib
import logging
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from service.api.api_keys import ApiKeys
from service.errors import RateLimited, Unauthorized
from service.metrics import Metrics
from tests.doubles import EchoEngine, level_png, replica_around
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
        self.keys.check(Headers(raw=[(header, value)]))

    def accepts(self, key: str | bytes, header: bytes = b"x-api-key") -> bool:
        try:
            self.ask(key, header)
        except Unauthorized:
            return False
        return True

    def counted(self, key: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("mixer_key_requests_total", {"key": key, "outcome": outcome})


def test_without_a_file_everybody_is_let_in() -> None:
    ApiKeys(None, Metrics()).check(Headers({}))


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
    assert door.accepts("old"), "the file is looked at once a second at most"
    door.time += 1
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
    now = 0.0
    keys = ApiKeys(file, Metrics(), now=lambda: now)
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").replace(tmp_path / "..data")
    now = 2.0
    keys.check(Headers({"x-api-key": "new"}))
    with pytest.raises(Unauthorized):
        keys.check(Headers({"x-api-key": "old"}))


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
            door.time += 1
            assert door.accepts("a")
            assert not door.accepts("b")
    (record,) = caplog.records
    assert "MIXER_API_KEYS_FILE" in record.getMessage()
    assert "secret" not in record.getMessage()
    door.file.write_text(digest("b"))
    door.time += 1
    assert door.accepts("b")


def test_a_change_of_the_file_fills_no_bucket(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys", f"{digest('a')} rate=1 burst=2")
    door.ask("a")
    door.ask("a")
    door.file.write_text(f"{digest('a')} renamed rate=0.1 burst=2")
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
    assert replica.metrics.registry.get_sample_value("mixer_admitted_images_total", {"model": "echo"}) == 0
