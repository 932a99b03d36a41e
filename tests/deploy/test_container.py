"""The image as an operator runs it: read-only, without rights, without a network."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.docker import ROOT, Docker

HARDENED = (
    *("--env=MIXER_DEADLINE_MS=60000", "--env=MIXER_LATENCY_TARGET_MS=60000"),  # a slow machine refuses nobody
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"),
    *("--memory=512m", "--pids-limit=256", "--health-interval=1s"),
    *("--hostname=mixer", "--add-host=mixer:127.0.0.1"),  # which Docker itself does wherever there is a network
    "--sysctl=net.ipv6.conf.all.disable_ipv6=0",
)
ONE_ENGINE = ("--env=MIXER_ENGINE=onnxruntime",)  # it starts in half the time
CLIENT = (ROOT / "tests" / "deploy" / "client.py").read_text()


@pytest.fixture(scope="module")
def service(docker: Docker, image: str) -> Iterator[str]:
    with docker.container(*HARDENED, "--cpus=1", image) as container:
        docker.wait_until(container, "{{.State.Health.Status}}", "healthy")
        yield container


def beside(docker: Docker, image: str, container: str, program: str, *arguments: str) -> str:
    """What a Python program prints that runs in the network of the container."""
    flags = ("--rm", "--interactive", "--network", f"container:{container}", "--entrypoint", "python")
    return docker("run", *flags, image, "-", *arguments, stdin=program)


def metrics(docker: Docker, image: str, container: str) -> dict[str, float]:
    program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9000/metrics').read().decode())"
    lines = beside(docker, image, container, program).splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def outcomes(docker: Docker, image: str, container: str, clients: int, requests: int) -> dict[str, int]:
    """How often each outcome was seen by client.py."""
    printed = beside(docker, image, container, CLIENT, str(clients), str(requests)).splitlines()[-1]
    counts: dict[str, int] = json.loads(printed)
    return counts


def test_the_image_holds_what_serving_takes_and_no_more(docker: Docker, image: str, base_image: str) -> None:
    size = int(docker.inspect(image, "{{.Size}}")) - int(docker.inspect(base_image, "{{.Size}}"))
    assert size < 320e6  # bytes
    assert docker.inspect(image, "{{.Config.User}} {{.Config.Entrypoint}}") == "10001:10001 [python -m service]"
    assert docker.inspect(image, '{{index .Config.Labels "org.opencontainers.image.licenses"}}') == "Apache-2.0"
    program = "import importlib.util as i; print([n for n in ('pip', 'torch', 'model_export') if i.find_spec(n)])"
    assert docker("run", "--rm", "--entrypoint", "python", image, "-c", program) == "[]"


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_every_engine_still_reproduces_the_golden_images(docker: Docker, image: str, engine: str) -> None:
    """Neither has lost a file that it needs."""
    with docker.container(*HARDENED, image, "--engine", engine) as container:
        docker.wait_until(container, "{{.State.Health.Status}}", "healthy")


def test_it_runs_without_rights(docker: Docker, service: str) -> None:
    status = docker("exec", service, "cat", "/proc/1/status")
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert (fields["Uid"][0], fields["Gid"][0]) == ("10001", "10001")
    assert int(fields["CapEff"][0], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == (["1"], ["2"])


def test_every_golden_digit_is_named(docker: Docker, image: str, service: str) -> None:
    counts = outcomes(docker, image, service, clients=2, requests=10)
    assert counts == {"right": 20, "calls": 2}


def test_a_large_form_needs_no_file(docker: Docker, image: str, service: str) -> None:
    program = """if True:
        import io, urllib.request
        from PIL import Image
        file = io.BytesIO()
        Image.effect_noise((2000, 2000), 99).save(file, "PNG")
        assert file.tell() > 2**21
        head = b'--x\\r\\ncontent-disposition: form-data; name="image"; filename="large.png"\\r\\n\\r\\n'
        form = head + file.getvalue() + b"\\r\\n--x--\\r\\n"
        headers = {"content-type": "multipart/form-data; boundary=x"}
        request = urllib.request.Request("http://127.0.0.1:8000/v1/classify", form, headers)
        print(urllib.request.urlopen(request).status)"""
    assert beside(docker, image, service, program) == "200"


def outward_attempts(docker: Docker, container: str) -> list[int]:
    """Packets that found no way out, and UDP datagrams, name look-ups among them, since the network namespace began."""
    program = """if True:
        import re
        lines = open("/proc/net/snmp").read().splitlines()
        names = [f"{h.split()[0]}{n}" for h in lines[::2] for n in h.split()[1:]]
        values = [v for line in lines[1::2] for v in line.split()[1:]]
        counters = dict(zip(names, values)) | dict(line.split() for line in open("/proc/net/snmp6"))
        wanted = ("Ip:OutNoRoutes", "Udp:OutDatagrams", "Ip6OutNoRoutes", "Udp6OutDatagrams")
        print(*(counters.get(name, 0) for name in wanted))"""
    return [int(count) for count in docker("exec", container, "python", "-c", program).split()]


def test_it_calls_nobody(docker: Docker, image: str, service: str) -> None:
    """As the kernel counts, from the start: with no network at all every outward packet is one without a route."""
    outcomes(docker, image, service, clients=1, requests=10)
    assert outward_attempts(docker, service) == [0, 0, 0, 0]
    assert not [line for line in docker.logs(service) if '"level": "INFO"' not in line]


def test_outward_calls_would_be_counted(docker: Docker, image: str) -> None:
    program = """if True:
        import contextlib, socket, time
        with contextlib.suppress(OSError): socket.create_connection(("192.0.2.1", 443))
        with contextlib.suppress(OSError): socket.create_connection(("2001:db8::1", 443))
        with contextlib.suppress(OSError): socket.create_connection(("telemetry.invalid", 443))
        print("called", flush=True)
        time.sleep(60)"""
    with docker.container(*HARDENED, "--entrypoint", "python", image, "-c", program) as container:
        docker.wait_for_line(container, "called")
        no_route, datagrams, no_route_6, _ = outward_attempts(docker, container)
    assert no_route_6 >= 1
    assert no_route + datagrams >= 2


def test_no_file_is_written(docker: Docker, image: str) -> None:
    """Nor would one be if it could."""
    writable = [flag for flag in HARDENED if flag != "--read-only"]
    with docker.container(*writable, image) as container:
        docker.wait_until(container, "{{.State.Health.Status}}", "healthy")
        assert outcomes(docker, image, container, clients=4, requests=25)["right"] == 100
        assert docker("diff", container) == ""


@pytest.mark.parametrize(("flag", "cores"), [("--cpus=0.5", 0.5), ("--cpuset-cpus=0", 1)])
def test_a_share_of_the_cores_gets_as_many_lanes(docker: Docker, image: str, flag: str, cores: float) -> None:
    """More would only be throttled; and what one lane cannot do in time is refused, not failed."""
    with docker.container(*HARDENED, *ONE_ENGINE, flag, image) as container:
        docker.wait_until(container, "{{.State.Health.Status}}", "healthy")
        counts = outcomes(docker, image, container, clients=8, requests=25)
        seen = metrics(docker, image, container)
    assert (seen["mixer_cores"], seen["mixer_lanes"], seen["mixer_lane_threads"]) == (cores, 1, 1)
    assert seen["mixer_lanes_ready"] == 1
    assert {outcome.partition(" ")[0] for outcome in counts} <= {"right", "calls", "429"}
    assert counts["right"] > 0


def test_sigterm_under_load_loses_nothing(docker: Docker, image: str) -> None:
    """Every request that got a connection is answered rightly, before, during and after `docker stop`; then exit 0."""
    with docker.container(*HARDENED, *ONE_ENGINE, "--env", "MIXER_DRAIN_SECONDS=1", image) as container:
        docker.wait_until(container, "{{.State.Health.Status}}", "healthy")
        flags = ("--rm", "--interactive", "--network", f"container:{container}", "--entrypoint", "python")
        pipe = subprocess.PIPE
        with docker.popen("run", *flags, image, "-", "16", "100000", stdin=pipe, stdout=pipe) as clients:
            assert clients.stdin and clients.stdout
            clients.stdin.write(CLIENT)
            clients.stdin.close()
            assert clients.stdout.readline() == "a hundred answers\n"
            docker("stop", "--time", "30", container)
            counts = json.loads(clients.stdout.read())
        assert counts.pop("calls") >= 16
        assert counts.pop("right") > 100
        assert counts == {"refused": 16}
        assert docker.inspect(container, "{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false"
        assert json.loads(docker.logs(container)[-1])["lost_images"] == 0


def ending(docker: Docker, image: str, *arguments: str) -> tuple[int, list[str]]:
    """Exit status and what was said of a service that cannot start."""
    hardened = [
        flag
        for flag in HARDENED
        if not flag.startswith(("--health", "--network", "--memory", "--host", "--add-host", "--sysctl"))
    ]
    network = [] if any("--network" in argument for argument in arguments) else ["--network=none"]
    status, out, err = docker.call("run", "--rm", *hardened, *network, *arguments, image)
    return status, [line for line in (out + err).splitlines() if not line.startswith("{")]


@pytest.mark.parametrize(
    ("setting", "status", "told"),
    [
        ("MIXER_MAX_BATCH_SIZE=-1", 2, "MIXER_MAX_BATCH_SIZE -1: should be greater than or equal to 0"),
        ("MIXER_PROT=8001", 2, "MIXER_PROT is no setting; did you mean MIXER_PORT?"),
        ("MIXER_MODELS=nope", 1, "MIXER_MODEL_REPOSITORY /app/models: has no model 'nope'; it has digits"),
        ("MIXER_MODELS=,", 2, "MIXER_MODELS: ',' names nothing"),
        ("MIXER_MODEL_REPOSITORY=/models", 1, "MIXER_MODEL_REPOSITORY /models: no such model repository"),
        ("MIXER_API_KEYS_FILE=/keys", 1, "MIXER_API_KEYS_FILE /keys: No such file or directory"),
        ("MIXER_ENGINE=tensorflow", 2, "MIXER_ENGINE tensorflow: should be 'auto', 'onnxruntime' or 'openvino'"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_in_one_line(docker: Docker, image: str, setting: str, status: int, told: str) -> None:
    assert ending(docker, image, "--env", setting) == (status, [f"mixer-serve: {told}"])


def test_service_links_are_not_settings(docker: Docker, image: str) -> None:
    """What Kubernetes tells every pod about a Service called mixer."""
    links = ("--env=MIXER_PORT=tcp://10.0.0.1:80", "--env=MIXER_SERVICE_HOST=10.0.0.1")
    with docker.container(*HARDENED, *ONE_ENGINE, *links, image) as container:
        docker.wait_for_line(container, "listening on port 8000, metrics on port 9000")


def test_unusable_mounts_are_told_in_one_line(docker: Docker, image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    repository = tmp_path / "models"
    mounted = ("--env=MIXER_MODEL_REPOSITORY=/models", f"--volume={repository}:/models:ro")
    shutil.copytree(ROOT / "models" / "digits" / "1", repository / "digits" / "1")
    (repository / "digits" / "1" / "labels.txt").write_text("cat\n")
    status, (line,) = ending(docker, image, *mounted)
    assert status == 1
    assert line.startswith("mixer-serve: /models/digits/1/labels.txt: sha256 ")
    repository.chmod(0o700)
    told = "mixer-serve: MIXER_MODEL_REPOSITORY /models: Permission denied"
    assert ending(docker, image, *mounted) == (1, [told])
    # Docker makes a folder of what it is told to mount and does not find.
    mounted = ("--env=MIXER_API_KEYS_FILE=/keys", f"--volume={tmp_path}/typo:/keys:ro")
    told = "mixer-serve: MIXER_API_KEYS_FILE /keys: Is a directory"
    assert ending(docker, image, *mounted) == (1, [told])


def test_a_taken_port_is_told_in_one_line(docker: Docker, image: str, service: str) -> None:
    network = f"--network=container:{service}"
    told = "mixer-serve: MIXER_METRICS_PORT 9000: Address already in use"
    assert ending(docker, image, network) == (1, [told])
    told = "mixer-serve: MIXER_PORT 8000: Address already in use"
    assert ending(docker, image, network, "--env=MIXER_METRICS_PORT=9001") == (1, [told])


def test_too_little_memory_is_told_in_one_line_and_a_little_suffices(docker: Docker, image: str) -> None:
    status, (line,) = ending(docker, image, "--memory=80m")
    assert (status, line.partition(":")[0]) == (1, "mixer-serve")
    assert "the memory limit of 80 MiB is too little" in line
    with docker.container(*HARDENED, "--memory=200m", image) as container:
        docker.wait_until(container, "{{.State.Health.Status}}", "healthy")
        counts = outcomes(docker, image, container, clients=4, requests=25)
        assert counts["right"] == 100
        assert docker.inspect(container, "{{.State.OOMKilled}}") == "false"
