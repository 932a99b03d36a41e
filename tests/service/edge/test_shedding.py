from pathlib import Path

import pytest

from tests.doubles import EchoEngine, level_png, replica_around
from tests.service.api.v2.messages import INFER, levels, pixels
from tests.service.replicas import client_of, outcomes, rejections

pytestmark = pytest.mark.anyio


async def test_what_the_event_loop_alone_would_make_late_is_refused_before_anything_else(tmp_path: Path) -> None:
    engine = EchoEngine()
    replica = replica_around(engine, tmp_path / "models", latency_target_ms=550)
    async with client_of(replica) as client:
        replica.loop_lag.take(0.1)  # five times on an image's way
        for deadline, status in (("100", 429), ("499", 429), ("600", 200), (None, 200), ("nonsense", 400)):
            headers = {"x-deadline-ms": deadline} if deadline else {}
            response = await client.post("/v1/classify", content=level_png(1), headers=headers)
            assert response.status_code == status, deadline
            if status == 429:
                assert response.json()["error"]["reason"] == "event_loop"
                assert response.headers["retry-after"] == "1"
                assert response.headers["x-request-id"]
        assert (await client.get("/healthz/live")).status_code == 200
        for _ in range(20):
            replica.loop_lag.take(0.0)
        urgent = await client.post("/v1/classify", content=level_png(1), headers={"x-deadline-ms": "100"})
        assert urgent.status_code == 200
    assert outcomes(replica) == {"ok": 3, "rejected": 2}
    assert rejections(replica) == {"event_loop": 2}


async def test_a_flood_is_refused_before_the_framework(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", deadline_ms=1000)
    async with client_of(replica) as client:
        replica.loop_lag.stop()
        replica.loop_lag.take(0.2)
        for path in (INFER, INFER + "/", "/v2/models/echo/versions/1/infer"):
            refused = await client.post(path, json=pixels(1))
            assert refused.status_code == 429
            assert isinstance(refused.json()["error"], str)
            assert refused.headers["retry-after"] == "1"
        patient = await client.post(INFER, json=pixels(1), headers={"x-deadline-ms": "60000"})
        assert levels(patient) == [1]
        for path in ("/v2/models/nope/infer", f"{INFER}?version=9"):
            assert (await client.post(path, json=pixels(1))).status_code == 404
    counted = replica.metrics.registry.get_sample_value(
        "mixer_requests_total", {"route": "/v2/models/{model}/infer", "code": "429"}
    )
    assert counted == 2
    assert outcomes(replica) == {"ok": 1, "rejected": 3}
