"""docker-compose.yml on a Docker Engine, as docs/how-to/go-to-production.md says: `make test-compose`.

The tests share one deployment and run in their order. Its project, its ports and the tags of its images are its own.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from tests.docker.test_compose import OURS, SERVICES, find_compose
from tests.services.eventually import eventually
from tests.services.need import need
from tests.workers.features.webhooks.certificates import Authority

from headrace_producers import KafkaSettings, Producer, ProducerSettings, ResultReader
from headrace_producers.kafka import KafkaSink

pytestmark = [pytest.mark.acceptance, pytest.mark.compose]

PROJECT: Final = f"headrace-test-{os.getpid()}"
FIRST, NEXT = "0.1.0-test", "0.1.0-test-next"
MODEL: Final = "smollm2-135m-instruct"
SHORT: Final = {"sampling": {"max_tokens": 8}}
LONG_RUNNING: Final = sorted(SERVICES - {"init", "worker-generate-gpu"})
HANG: Final = 900.0  # seconds: for hangs, it measures nothing
RECEIVER: Final = """
import json, ssl
from http.server import BaseHTTPRequestHandler, HTTPServer

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        print(json.dumps([{name.lower(): value for name, value in self.headers.items()}, body]), flush=True)
        self.send_response(204)
        self.end_headers()

server = HTTPServer(("0.0.0.0", 8443), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/receiver/receiver.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# A receiver of webhooks in a network of ours, whose certificate is by an authority of ours.
OVERRIDE: Final = """
services:
  bridge: &told
    environment: { HEADRACE_WEBHOOK_NETWORKS: "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16" }
  gateway: *told
  worker-deliver:
    environment:
      HEADRACE_WEBHOOK_NETWORKS: "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
      SSL_CERT_FILE: /receiver/authority.pem
    volumes: ["FOLDER:/receiver:ro"]
  receiver:
    image: headrace:${HEADRACE_VERSION}
    pull_policy: never
    init: true
    entrypoint: [python, /receiver/receiver.py]
    healthcheck: { test: [CMD, "true"] }
    tmpfs: [/var/lib/headrace]
    networks: [edge]
    volumes: ["FOLDER:/receiver:ro"]
"""


class Deployment:
    """A project of Compose. `folder` has its settings, its override and what its receiver reads."""

    def __init__(self, root: Path, folder: Path, program: Sequence[str]) -> None:
        self.folder = folder
        self.ports = {"KAFKA": _free_port(), "GATEWAY": _free_port()}
        self.key = ""
        self._program = [
            *program, "--project-name", PROJECT, "--project-directory", str(root), "--env-file", str(folder / ".env"),
            "--file", str(root / "docker-compose.yml"), "--file", str(folder / "override.yml"),
        ]  # fmt: skip
        (folder / "receiver.py").write_text(RECEIVER)
        authority = Authority(folder)
        authority.server("receiver")
        (folder / "authority.pem").write_text(authority.pem())
        (folder / "override.yml").write_text(OVERRIDE.replace("FOLDER", str(folder)))
        for file in (folder, *folder.iterdir()):
            file.chmod(0o755)
        self.configure(HEADRACE_VERSION=FIRST)

    def configure(self, **settings: str) -> None:
        ports = {f"HEADRACE_{name}_PORT": str(port) for name, port in self.ports.items()}
        lines = {"POSTGRES_PASSWORD": "of this test", **ports, **settings}.items()
        (self.folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in lines))

    def compose(self, *arguments: str, input: bytes | None = None) -> bytes:
        """Run `docker compose`; what it prints."""
        ours = ("HEADRACE_", "POSTGRES_", "COMPOSE_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        done = subprocess.run(
            [*self._program, *arguments], input=input, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:].decode()}{done.stderr[-4000:].decode()}"
        return done.stdout

    def headrace(self, *arguments: str, service: str = "bridge", input: bytes | None = None) -> str:
        """Run a command of headrace in a running container; what it prints."""
        return self.compose("exec", "-T", service, "headrace", *arguments, input=input).decode().strip()

    def wrong(self) -> dict[str, list[str]]:
        """What `headrace doctor` finds wrong, by what is looked at."""
        found: dict[str, list[str]] = {}
        # In a shell, since its exit code tells that something is wrong.
        shell = ["exec", "-T", "bridge", "sh", "-c", "headrace doctor --json || test $? = 1"]
        for line in map(json.loads, self.compose(*shell).splitlines()):
            if not line["ok"]:
                found.setdefault(line["what"], []).append(line["wrong"])
        return found

    def up(self, *options: str) -> None:
        """Start what does not run as it should, and wait until all of it is healthy."""
        self.compose("up", "--detach", "--wait", *options)

    def containers(self) -> dict[str, str]:
        """The id of each service's container that runs."""
        listed = [json.loads(line) for line in self.compose("ps", "--format", "json").splitlines()]
        return {item["Service"]: item["ID"] for item in listed if item["State"] == "running"}

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.ports['GATEWAY']}{path}"
        return httpx.request(method, url, headers={"Authorization": f"Bearer {self.key}"}, timeout=120, **options)

    def state(self, job: str) -> str:
        """The state of a job, once it has ended or a minute has passed; "unknown" before its record is read, and while
        the gateway cannot reach what was killed.
        """
        answer = self.http("GET", f"/v1/jobs/{job}?wait=60")
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.SERVICE_UNAVAILABLE):
            return "unknown"
        return str(answer.raise_for_status().json()["state"])

    @property
    def kafka(self) -> KafkaSettings:
        return KafkaSettings.at(f"localhost:{self.ports['KAFKA']}")

    def publish(self, name: str, count: int) -> list[str]:
        with Producer(KafkaSink(self.kafka, max_block=HANG), ProducerSettings(model=MODEL)) as producer:
            return [
                producer.generate(prompt=f"Name river {n}.", max_tokens=8, idempotency_key=f"{name}-{n}")
                for n in range(count)
            ]

    def wait_for(self, jobs: Sequence[str]) -> None:
        """Wait until all of these are answered."""
        open_jobs = set(jobs)

        def all_ended() -> bool:
            for job in sorted(open_jobs):
                if (state := self.state(job)) not in ("unknown", "accepted", "active"):
                    assert state == "done", (job, state)
                    open_jobs.discard(job)
            return not open_jobs

        eventually(all_ended, HANG)

    def ends(self, jobs: Sequence[str]) -> dict[str, set[str]]:
        """The ids of the events in Kafka that end each of these jobs."""
        found: dict[str, set[str]] = {job: set() for job in jobs}
        with ResultReader(self.kafka, from_beginning=True) as reader:
            for received in reader.read_existing():
                if received.waited_for in found:
                    found[received.waited_for].add(received.envelope.id)
        return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def engine() -> bool:
    """Return True if a Docker Engine answers."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="module")
def deployment(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    program = need(find_compose(), "Docker Compose: install Debian's docker-compose or Docker's compose plugin")
    need(engine() or None, "a Docker Engine that runs")
    deployment = Deployment(root, tmp_path_factory.mktemp("deployment"), program)
    for folder in deployment.folder.parents:
        if folder.is_relative_to(tmp_path_factory.getbasetemp().parent):
            folder.chmod(0o755)  # the containers' user reads what is mounted from there
    try:
        deployment.up("--build")
        deployment.key = deployment.headrace("keys", "create", "test", service="gateway")
        yield deployment
    finally:
        print(deployment.compose("ps", "--all").decode())
        print(deployment.compose("logs", "--tail", "40").decode())
        deployment.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")
        subprocess.run(["docker", "image", "rm", *(f"headrace:{text}" for text in (FIRST, NEXT))], check=False)


def test_everything_starts_and_a_second_build_recreates_nothing(deployment: Deployment) -> None:
    before = deployment.containers()
    assert set(before) == {*LONG_RUNNING, "receiver"}
    assert deployment.wrong() == {}
    deployment.up("--build")
    assert deployment.containers() == before


def test_jobs_are_answered_over_http_and_kafka(deployment: Deployment) -> None:
    sent = deployment.http("POST", "/v1/jobs", json={"model": MODEL, "prompt": "Name a lake.", **SHORT})
    jobs = [sent.json()["id"], *deployment.publish("first", 4)]
    deployment.wait_for(jobs)
    assert {job: len(events) for job, events in deployment.ends(jobs).items()} == dict.fromkeys(jobs, 1)


def test_a_key_signs_in_to_the_console(deployment: Deployment) -> None:
    address = f"http://localhost:{deployment.ports['GATEWAY']}"
    form = {"name": "Ada", "key": deployment.key}
    with httpx.Client(base_url=address, timeout=60) as browser:
        for origin, status in (("http://elsewhere", 403), (address, 303)):
            answer = browser.post("/console/sign-in", data=form, headers={"Origin": origin})
            assert answer.status_code == status, answer.text
        assert browser.get("/console/playground/").status_code == 200


def test_a_batch_comes_by_standard_input(deployment: Deployment) -> None:
    jobs = "".join(json.dumps({"prompt": f"Name lake {n}.", **SHORT}) + "\n" for n in range(40))
    batch = deployment.headrace("batch", "submit", "-", input=jobs.encode())
    eventually(partial(has_ended, deployment, batch), HANG)
    assert len(deployment.headrace("batch", "results", batch).splitlines()) == 40


def test_a_command_reads_files_that_are_mounted(deployment: Deployment) -> None:
    (deployment.folder / "leave.md").write_text("# Leave\n\nThere are 30 days of leave.\n")
    mounted = f"{deployment.folder / 'leave.md'}:/tmp/leave.md:ro"
    command = ["run", "--rm", "-T", "--volume", mounted, "bridge", "knowledge", "add", "handbook", "/tmp/leave.md"]
    deployment.compose(*command)
    assert json.loads(deployment.headrace("knowledge", "list", "--json"))["documents"] == 1


def test_a_webhook_arrives_signed(deployment: Deployment) -> None:
    secret = deployment.headrace("webhooks", "add", "https://receiver:8443/hooks", "--event", "job.completed", "--json")
    key = base64.b64decode(json.loads(secret)["signing_secret"].removeprefix("whsec_"))
    (job,) = deployment.publish("webhook", 1)
    headers, body = eventually(partial(delivery, deployment, job), HANG)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_each_container_may_be_killed(deployment: Deployment) -> None:
    jobs = deployment.publish("before", 20)
    before = deployment.containers()
    for service in LONG_RUNNING:
        kill(before[service])
        jobs += deployment.publish(f"after-{service}", 5)
    deployment.up()
    assert deployment.containers() == before  # started again, not made anew
    deployment.wait_for(jobs)
    assert {job: len(events) for job, events in deployment.ends(jobs).items()} == dict.fromkeys(jobs, 1)


def test_an_upgrade_under_load_loses_nothing_and_can_go_back(deployment: Deployment) -> None:
    jobs = deployment.publish("upgrade", 100)
    for version, build in ((NEXT, True), (FIRST, False)):
        deployment.configure(HEADRACE_VERSION=version)
        if build:
            deployment.compose("build")
            deployment.compose("run", "--rm", "-T", "init")
        deployment.up()
        jobs += deployment.publish(version, 20)
        images = {name: docker("inspect", "--format", "{{.Config.Image}}", id) for name, id in running(deployment)}
        assert {image.strip() for image in images.values()} == {f"headrace:{version}"}
    deployment.wait_for(jobs)
    assert {job: len(events) for job, events in deployment.ends(jobs).items()} == dict.fromkeys(jobs, 1)


def test_a_backup_brings_back_the_ledger_and_the_files(deployment: Deployment) -> None:
    old = deployment.publish("old", 5)
    deployment.wait_for(old)
    batch = deployment.headrace("batch", "submit", "-", input=json.dumps({"prompt": "Name a sea.", **SHORT}).encode())
    eventually(partial(has_ended, deployment, batch), HANG)
    results = deployment.headrace("batch", "results", batch)
    dump = ["exec", "-T", "postgres", "pg_dump", "--username=headrace", "--format=custom", "headrace"]
    ledger = deployment.compose(*dump)
    files = deployment.compose("exec", "-T", "bridge", "tar", "-C", "/var/lib/headrace", "-c", "files")
    new = deployment.publish("new", 5)
    deployment.wait_for(new)

    deployment.compose("rm", "--stop", "--force", "--volumes")
    docker("volume", "rm", f"{PROJECT}_ledger", f"{PROJECT}_files")

    deployment.up("postgres")
    restore = ["pg_restore", "--username=headrace", "--dbname=headrace", "--clean", "--if-exists"]
    deployment.compose("exec", "-T", "postgres", *restore, input=ledger)
    untar = ["run", "--rm", "-T", "--no-deps", "--entrypoint", "tar", "bridge", "-C", "/var/lib/headrace", "-x"]
    deployment.compose(*untar, input=files)
    deployment.up()
    lost = deployment.wrong()
    assert lost.keys() == {"bridges"}
    assert all("the ledger was restored from a backup" in reason for reason in lost["bridges"])
    assert deployment.headrace("batch", "results", batch) == results
    deployment.wait_for([*old, *new])


def has_ended(deployment: Deployment, batch: str) -> bool:
    """Return True once a batch is completed."""
    status = json.loads(deployment.headrace("batch", "status", batch, "--json"))["status"]
    assert status not in ("failed", "expired", "cancelled"), status
    return bool(status == "completed")


def delivery(deployment: Deployment, job: str) -> tuple[dict[str, str], str] | None:
    """Return headers and body of the webhook that tells of a job, once it came."""
    for line in docker("logs", deployment.containers()["receiver"]).splitlines():
        if line.startswith("[") and json.loads((found := json.loads(line))[1])["data"]["id"] == job:
            return found[0], found[1]
    return None


def kill(container: str) -> None:
    """End a container's processes as the kernel would, which `docker kill` does not: then the engine lets it lie.

    Return when the engine has started it again.
    """
    pid = docker("inspect", "--format", "{{.State.Pid}}", container).strip()
    program = f"import os; os.kill({pid}, 9)"
    docker("run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "python", f"headrace:{FIRST}", "-c", program)

    def again() -> bool:
        now = docker("inspect", "--format", "{{.State.Pid}} {{.State.Running}}", container).split()
        return now[1] == "true" and now[0] not in ("0", pid)

    eventually(again, HANG)


def running(deployment: Deployment) -> list[tuple[str, str]]:
    """Return the names of headrace's own services that run, and their containers."""
    return [(name, id) for name, id in deployment.containers().items() if name in OURS]
