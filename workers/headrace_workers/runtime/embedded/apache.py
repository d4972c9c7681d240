"""Apache Kafka as one KRaft node on loopback: its properties, its command lines."""

import base64
import os
import subprocess
from pathlib import Path

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.private_files import private_folder

_HEAP = "256m"
# A broker that is silent for longer has no partitions any more, as its controller says. Both are one process, which
# stands still where the machine does; clients then find no broker, or no leader, although nothing was lost.
_STALL_MS = 30_000
_AFTER_A_KILL_MS = 2_000  # but for so long the next controller waits for the broker that was killed

_LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "%d %p %m (%c{1})%n"}
  Loggers:
    Root:
      level: WARN
      AppenderRef: [{ref: out}]
"""


def properties(folder: Path, port: int, controller_port: int) -> str:
    """Return server.properties of a node that is broker and controller, with every topic replicated once."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "log"),
        "auto.create.topics.enable": "false",
        # One node can replicate nothing.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A single machine need not wait for others to join a group.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.session.timeout.ms": str(_AFTER_A_KILL_MS if _was_killed(folder / "log") else _STALL_MS),
        "broker.heartbeat.interval.ms": "500",
        # The controller writes nothing twice a second, so that brokers elsewhere see how far behind they are.
        "metadata.max.idle.interval.ms": "10000",
        # For Kafka's own topics, which are compacted. Its default would take half the heap: over a thousand partitions,
        # the rest was too little for a restart after a kill.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024**2),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _was_killed(log: Path) -> bool:
    """Return True if a broker wrote this log and did not close it."""
    return (log / "__cluster_metadata-0").exists() and not (log / ".kafka_cleanshutdown").exists()


def argv(kafka_home: Path, folder: Path) -> list[str]:
    """Return the broker's command line. Java is the process itself, so a signal reaches the broker."""
    return [*_java(kafka_home, folder), "kafka.Kafka", str(folder / "server.properties")]


def prepare(kafka_home: Path, folder: Path, port: int, controller_port: int) -> None:
    """Write the configuration, and format the log if there is none; an existing log is kept."""
    private_folder(folder)
    config = folder / "server.properties"
    config.write_text(properties(folder, port, controller_port), encoding="utf-8")
    (folder / "log4j2.yaml").write_text(_LOG4J, encoding="utf-8")
    if (folder / "log" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=").replace("-", "A")
    command = [*_java(kafka_home, folder), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()
        if "UnsupportedClassVersionError" in output:
            raise ConfigurationError(f"Apache Kafka in {kafka_home} needs a newer Java than the one on the PATH: 17")
        last = "".join(output.splitlines()[-1:])
        raise ConfigurationError(f"Apache Kafka in {kafka_home} could not format {folder}: {last}")


def _java(kafka_home: Path, folder: Path) -> list[str]:
    return [
        "java",
        f"-Xms{_HEAP}",
        f"-Xmx{_HEAP}",
        "-XX:+UseSerialGC",  # small heap: the parallel collectors would only cost threads
        "-XX:TieredStopAtLevel=1",  # starts in half the time
        "-XX:-UsePerfData",  # for jstat and the like, twenty times a second
        f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}",
        "-cp",
        f"{kafka_home / 'libs'}/*",  # java expands the star
    ]
