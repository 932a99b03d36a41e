from service.scheduling.pass_log import PassLog, PassRecord


def record(at: float) -> PassRecord:
    return PassRecord(at, "m", 1, "idle", 0, 0, 1.0, 2.0, 3.0, 2.5, wide=False)


def test_the_newest_comes_first_and_the_oldest_goes() -> None:
    log = PassLog()
    assert log.newest_first() == []
    for at in range(300):
        log.add(record(at))
    records = log.newest_first()
    assert [entry["at"] for entry in records] == list(range(299, 43, -1))
    assert records[0] == {
        "at": 299,
        "model": "m",
        "size": 1,
        "reason": "idle",
        "left_waiting": 0,
        "dropped": 0,
        "waited_ms": 1.0,
        "forecast_ms": 2.0,
        "batch_ms": 3.0,
        "pass_ms": 2.5,
        "wide": False,
    }
