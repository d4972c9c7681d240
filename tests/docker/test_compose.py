"""docker-compose.yml: valid to Compose itself, and every service bounded, watched and locked down."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.commands import COMMANDS
from tests.services.need import need
from tools.reference.settings_page import described

from headrace_workers.core.ledger.incidents import memory_variable

Services = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[2]
SERVICES = {
    "kafka", "redis", "postgres",
    "init", "bridge", "gateway",
    "worker-generate", "worker-recall", "worker-moderate", "worker-judge", "worker-deliver", "worker-generate-gpu",
}  # fmt: skip
OURS = SERVICES - {"kafka", "redis", "postgres"}
ONE_SHOT = {"init"}
# The Kafka image writes its configuration beneath /opt when it starts.
WRITABLE_ROOT = {"kafka"}

WORKERS = {name for name in OURS if name.startswith("worker-")}
# Settings that .env does not change: the file sets addresses, home and password; nothing here starts Kafka by itself.
SET_BY_THE_FILE = {
    "HEADRACE_HOME", "HEADRACE_KAFKA", "HEADRACE_REDIS", "HEADRACE_LEDGER", "HEADRACE_LEDGER_PASSWORD", "KAFKA_HOME",
}  # fmt: skip
# Services that get a secret, and the variable that names a file with it. The path of the ledger's is no secret.
SECRETS = {
    "HEADRACE_KAFKA_PASSWORD": {"init", "bridge", "gateway"},
    "HEADRACE_MODERATION_KEY": {"worker-recall", "worker-moderate"},
    "HEADRACE_WEBHOOK_KEY": {"bridge", "gateway", *WORKERS},
}


# Each override of the page, by its section.
OVERRIDES = {
    section.partition("\n")[0]: shown[1]
    for section in re.split(r"^## ", (ROOT / "docs/how-to/adapt-the-compose-file.md").read_text("utf-8"), flags=re.M)
    if (shown := re.search(r"```yaml\n(# docker-compose\.override\.yml\n.*?)```", section, re.DOTALL))
}


def _asks_a_provider(services: Services) -> None:
    worker = services["worker-remote"]
    assert set(worker["networks"]) == {"core", "edge"}
    assert worker["cap_drop"] == ["ALL"]
    for name in ("init", "bridge", "gateway", "worker-moderate", "worker-judge", "worker-remote"):
        mounted = {volume["target"] for volume in services[name]["volumes"]}
        assert {"/var/lib/headrace/models.toml", "/var/lib/headrace/models"} <= mounted


def _speaks_tls(services: Services) -> None:
    assert set(services["proxy"]["networks"]) & set(services["gateway"]["networks"])


def _trusts_an_authority(services: Services) -> None:
    assert services["init"]["build"]["secrets"][0]["source"] == services["init"]["secrets"][0]["source"] == "ca"


def _has_a_secured_kafka(services: Services) -> None:
    for name in ("init", "bridge", "gateway"):
        assert services[name]["environment"]["HEADRACE_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert "edge" in services[name]["networks"]


def _has_new_volumes(services: Services) -> None:
    mounted = {volume["source"] for service in services.values() for volume in service.get("volumes", ())}
    assert {
        "ledger",
        "kafka-log",
        "files",
        "recall",
    } <= mounted  # each volume that the page renames is one of the file's


EXAMPLES: dict[str, Callable[[Services], None]] = {
    "A model at a provider": _asks_a_provider,
    "TLS before the gateway": _speaks_tls,
    "A mirror, a proxy, or an authority of your own": _trusts_an_authority,
    "A secured Kafka": _has_a_secured_kafka,
    "A new ledger": _has_new_volumes,
}


def find_compose() -> list[str] | None:
    """The installed Compose, as Debian's command or as Docker's plugin."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    return None


def config(
    root: Path,
    *arguments: str,
    password: str | None = "secret-of-this-test",
    env_file: str = os.devnull,
    **settings: str,
) -> subprocess.CompletedProcess[str]:
    """Run `config`, which needs no engine, with only the PATH, the password and these settings in the environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}
    if password is not None:
        environment["POSTGRES_PASSWORD"] = password
    binary = need(find_compose(), "Docker Compose: install Debian's docker-compose or Docker's compose plugin")
    command = [*binary, "--env-file", env_file, "--file", str(root / "docker-compose.yml"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.integration
def test_compose_accepts_the_file(root: Path) -> None:
    plain = config(root, "config", "--format", "json")
    assert plain.returncode == 0, plain.stderr
    assert set(json.loads(plain.stdout)["services"]) == SERVICES - {"worker-generate-gpu"}
    gpu = config(root, "--profile", "gpu", "config", "--format", "json")
    assert gpu.returncode == 0, gpu.stderr
    assert set(json.loads(gpu.stdout)["services"]) == SERVICES
    assert "WARN" not in gpu.stderr.upper()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://localhost:8420"),
        ({"HEADRACE_GATEWAY_PORT": "9000"}, "http://localhost:9000"),
        ({"HEADRACE_PUBLIC_URL": "https://llm.example.org"}, "https://llm.example.org"),
    ],
)
def test_the_gateway_knows_where_it_is_published(root: Path, settings: dict[str, str], address: str) -> None:
    """Without an address the console refuses to sign anybody in."""
    gateway = json.loads(config(root, "config", "--format", "json", **settings).stdout)["services"]["gateway"]
    assert gateway["environment"]["HEADRACE_PUBLIC_URL"] == address
    port = settings.get("HEADRACE_GATEWAY_PORT", "8420")
    assert [(item["published"], item["host_ip"]) for item in gateway["ports"]] == [(port, "127.0.0.1")]


@pytest.mark.integration
def test_only_make_test_compose_collects_what_needs_an_engine(root: Path) -> None:
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "tests/docker", "-m"]
    for marks, collected in (("not slow", False), ("compose", True)):
        completed_process = subprocess.run(
            [*collect, marks], cwd=root, capture_output=True, text=True, check=False, timeout=240
        )
        assert ("test_running.py" in completed_process.stdout) is collected, completed_process.stdout


@pytest.mark.integration
def test_every_setting_in_the_env_file_reaches_the_services_that_need_it(root: Path, tmp_path: Path) -> None:
    """A setting that silently reached nothing, such as a retention, would be a trap. A secret goes to few services."""
    settings = set(described())
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}=the {name}\n" for name in sorted(settings)), "utf-8")
    resolved = config(root, "--profile", "gpu", "config", "--format", "json", env_file=str(env_file))
    assert resolved.returncode == 0, resolved.stderr
    services = json.loads(resolved.stdout)["services"]
    reached = {
        name: {key for key, value in (services[name].get("environment") or {}).items() if value == f"the {key}"}
        for name in services
    }
    assert settings >= SET_BY_THE_FILE
    for setting in settings:
        expected = set() if setting in SET_BY_THE_FILE else SECRETS.get(setting.removesuffix("_FILE"), OURS)
        assert {name for name in services if setting in reached[name]} == expected, setting
    assert not {key for names in reached.values() for key in names} - settings


@pytest.mark.integration
def test_a_setting_that_is_not_in_the_env_file_reaches_nothing(root: Path) -> None:
    """An empty variable would be one more thing to explain, and not every program takes it for unset."""
    services = json.loads(config(root, "config", "--format", "json").stdout)["services"]
    for name in OURS - {"worker-generate-gpu"}:
        given = {key for key, value in services[name]["environment"].items() if value is not None}
        assert given - {"TMPDIR", "HEADRACE_PUBLIC_URL"} == SET_BY_THE_FILE - {"KAFKA_HOME"}


@pytest.mark.integration
def test_compose_refuses_to_start_without_a_password(root: Path) -> None:
    refused = config(root, "config", "--quiet", password=None)
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD" in refused.stderr


@pytest.mark.integration
@pytest.mark.parametrize("example", EXAMPLES)
def test_compose_accepts_each_documented_override(root: Path, tmp_path: Path, example: str) -> None:
    override = tmp_path / "override.yml"
    override.write_text(OVERRIDES[example], "utf-8")
    files = ["--file", str(override), "--project-directory", str(root)]
    merged = config(root, *files, "config", "--format", "json", HEADRACE_KAFKA_PASSWORD="x")
    assert merged.returncode == 0, merged.stderr
    found = json.loads(merged.stdout)["services"]
    EXAMPLES[example](found)
    assert all(found[name]["environment"]["HEADRACE_REDIS"] for name in ("bridge", "gateway"))


def test_every_documented_override_is_tried() -> None:
    assert set(OVERRIDES) == set(EXAMPLES)


def test_all_expected_services_are_there(services: Services) -> None:
    """The services are exactly the known ones, so that the checks below leave none out."""
    assert set(services) == SERVICES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_watched_restarted_and_bounded(services: Services, name: str) -> None:
    service = services[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
        assert service["healthcheck"]["start_period"] == "180s"  # a slow disk, a large model
        assert service["stop_grace_period"]
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_locked_down(services: Services, name: str) -> None:
    service = services[name]
    assert not service.get("privileged")
    assert service["cap_drop"] == ["ALL"]
    assert not service.get("cap_add")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"network_mode", "pid", "ipc", "userns_mode"} & set(service)
    assert "docker.sock" not in json.dumps(service)
    assert bool(service.get("read_only")) is (name not in WRITABLE_ROOT)


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_commands_are_those_that_the_tests_run(services: Services, name: str) -> None:
    expected = COMMANDS[name.removesuffix("-gpu")]
    assert services[name]["command"] == expected
    assert "entrypoint" not in services[name]
    if name not in ONE_SHOT:
        role = name if name in ("bridge", "gateway") else "worker"
        assert services[name]["healthcheck"]["test"] == ["CMD", "headrace", *COMMANDS[f"health-{role}"]]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_find_their_parts_and_keep_the_password_out_of_the_address(services: Services, name: str) -> None:
    environment = services[name]["environment"]
    assert environment["HEADRACE_KAFKA"] == "kafka:19092"
    assert environment["HEADRACE_REDIS"].startswith("redis://redis:")
    assert re.fullmatch(r"postgresql\+psycopg://headrace@postgres:5432/headrace", environment["HEADRACE_LEDGER"])
    assert environment["HEADRACE_LEDGER_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert environment["HEADRACE_HOME"] == "/var/lib/headrace"


@pytest.mark.parametrize("name", sorted(OURS - ONE_SHOT))
def test_a_process_that_is_killed_for_memory_is_told_the_variable_of_its_bound(services: Services, name: str) -> None:
    variable = memory_variable(" ".join(services[name]["command"]))
    named = (variable or "").replace("GENERATE", "GPU") if name.endswith("-gpu") else variable
    assert services[name]["mem_limit"].startswith(f"${{{named}:-")


def test_everything_waits_for_what_it_needs(services: Services) -> None:
    for name in OURS - ONE_SHOT:
        conditions = {on: wait["condition"] for on, wait in services[name]["depends_on"].items()}
        assert conditions.pop("init") == "service_completed_successfully"
        assert conditions == dict.fromkeys(("kafka", "redis", "postgres"), "service_healthy")
    assert set(services["init"]["depends_on"]) == {"kafka", "postgres"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_carry_an_exact_version(root: Path, services: Services, name: str) -> None:
    """No image floats. Ours have the version of the project, so that an upgrade leaves the image before."""
    image = services[name]["image"]
    if name not in OURS:
        assert re.search(r":\d+\.\d+(\.\d+|-)", image), image
        return
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    suffix = "-gpu" if name.endswith("-gpu") else ""
    assert image == f"headrace:${{HEADRACE_VERSION:-{version}}}{suffix}"


def test_one_service_builds_each_of_our_images_and_nothing_pulls_them(root: Path, services: Services) -> None:
    built = {name: service["build"]["dockerfile"] for name, service in services.items() if "build" in service}
    assert built == {"init": "docker/Dockerfile", "worker-generate-gpu": "docker/Dockerfile.gpu"}
    assert all((root / dockerfile).is_file() for dockerfile in built.values())
    assert {services[name]["pull_policy"] for name in OURS} == {"never"}


@pytest.mark.integration
def test_pip_gets_its_own_variables_where_they_are_set(root: Path) -> None:
    settings = {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_CERT": "/run/secrets/ca"}
    shown = config(root, "--profile", "gpu", "config", "--format", "json", **settings, HTTPS_PROXY="http://proxy:3128")
    found = json.loads(shown.stdout)["services"]
    expected = {**settings, "HTTPS_PROXY": "http://proxy:3128"}
    for values in (
        found["init"]["environment"],
        *(found[name]["build"]["args"] for name in ("init", "worker-generate-gpu")),
    ):
        given = {name: value for name, value in values.items() if value and re.match(r"PIP_|\w+_PROXY", name)}
        assert given == expected


def test_only_the_doors_are_published_and_only_on_loopback(services: Services) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(published) == {"kafka", "gateway"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_workers_and_stores_cannot_reach_the_internet(compose: dict[str, Any], services: Services) -> None:
    assert compose["networks"]["core"]["internal"] is True
    assert {name for name, service in services.items() if service["networks"] != ["core"]} == {
        "kafka",
        "gateway",
        "init",
        "worker-deliver",
    }


def test_redis_keeps_nothing_and_never_evicts(services: Services) -> None:
    command = services["redis"]["command"]
    settings = dict(zip(command[1::2], command[2::2], strict=True))
    assert settings["--save"] == ""
    assert settings["--appendonly"] == "no"
    assert settings["--maxmemory-policy"] == "noeviction"
    assert int(settings["--maxmemory"].removesuffix("mb")) < int(services["redis"]["mem_limit"].removesuffix("m"))
    assert not services["redis"].get("volumes")


def test_what_must_survive_lies_on_named_volumes(compose: dict[str, Any], services: Services) -> None:
    assert set(compose["volumes"]) == {"files", "kafka-log", "ledger", "models", "recall"}
    assert "files:/var/lib/headrace/files" in services["bridge"]["volumes"]
    assert services["postgres"]["volumes"] == ["ledger:/var/lib/postgresql/data"]
    assert services["kafka"]["volumes"] == [f"kafka-log:{services['kafka']['environment']['KAFKA_LOG_DIRS']}"]
    assert services["init"]["volumes"] == ["models:/var/lib/headrace/models"]
    own = {
        "worker-recall": ["recall:/var/lib/headrace/recall", "files:/var/lib/headrace/files:ro"],
        "gateway": ["files:/var/lib/headrace/files"],
    }
    for name in OURS - ONE_SHOT - {"bridge"}:
        assert services[name]["volumes"] == ["models:/var/lib/headrace/models:ro", *own.get(name, [])]


def test_kafkas_check_starts_no_jvm(services: Services) -> None:
    check, kafka = services["kafka"]["healthcheck"]["test"], services["kafka"]["environment"]
    (port,) = re.findall(r"INTERNAL://:(\d+)", kafka["KAFKA_LISTENERS"])
    assert check == ["CMD", "bash", "-c", f": > /dev/tcp/127.0.0.1/{port}"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [*check[1:-1], check[-1].replace(port, str(server.getsockname()[1]))]
        assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert subprocess.run(command, check=False, timeout=60, capture_output=True).returncode != 0


def test_kafka_advertises_what_its_clients_use(services: Services) -> None:
    kafka = services["kafka"]
    advertised = dict(a.split("://", 1) for a in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    listening = dict(a.split("://", 1) for a in kafka["environment"]["KAFKA_LISTENERS"].split(","))
    assert advertised["INTERNAL"] == services["bridge"]["environment"]["HEADRACE_KAFKA"]
    assert listening["INTERNAL"].split(":")[-1] == advertised["INTERNAL"].split(":")[-1]
    bound, _, inside = kafka["ports"][0].removeprefix("127.0.0.1:").rpartition(":")
    assert advertised["HOST"] == f"localhost:{bound}"
    assert listening["HOST"] == f":{inside}"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_gpu_worker_is_opt_in_and_reserves_a_gpu(services: Services) -> None:
    assert [name for name, service in services.items() if service.get("profiles")] == ["worker-generate-gpu"]
    gpu = services["worker-generate-gpu"]
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
