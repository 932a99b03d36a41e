"""Overload provoked: an alert goes from silent to pending to firing, and is silent again when the load has gone."""

import re
from pathlib import Path

from tests.deploy.processes import RULES, load, running_prometheus, wait_until
from tests.e2e.processes import GOLDEN, running_service

DIGIT = (GOLDEN / "digit-3.png").read_bytes()


def shortened(rules: Path) -> Path:
    """The same rules with seconds for minutes, so that a test may wait for them."""
    rules.mkdir()
    for path in RULES.glob("*.yml"):
        text = re.sub(r"\[5m\]", "[5s]", path.read_text())
        (rules / path.name).write_text(re.sub(r"for: \d+[mh]", "for: 3s", text))
    return rules


def test_overload_makes_an_alert_fire_until_it_is_over(tmp_path: Path) -> None:
    scratch = tmp_path / "prometheus"
    scratch.mkdir()
    with (
        running_service("--max-inflight-images", "2", "--max-batch-size", "2") as service,
        running_prometheus(service, scratch, shortened(tmp_path / "rules")) as prometheus,
        load(service, 1, [DIGIT]),
    ):
        wait_until(lambda: bool(prometheus.query("job:mixer_images:rate5m > 0")))
        assert "MixerRejects" not in prometheus.alerts()
        seen = set()

        def state() -> str:
            seen.add(now := prometheus.alerts().get("MixerRejects", "silent"))
            return now

        with load(service, 8, [DIGIT]):
            wait_until(lambda: state() == "firing")
            (rejected,) = prometheus.query("job_model:mixer_images_rejected:ratio_rate5m")
            assert float(rejected["value"][1]) > 0.05
            assert service.metrics()["mixer_ready"] == 1  # refusing is no failure
        assert "pending" in seen
        wait_until(lambda: state() == "silent")
        assert service.metrics()['mixer_images_total{model="digits",outcome="error",version="1"}'] == 0
