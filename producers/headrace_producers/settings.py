"""The only place of this package that reads the environment."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from headrace_schemas.aliases import DEFAULT_EMBEDDER, embedder_alias
from headrace_schemas.envelope import is_uri_reference
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.topics import DEFAULT_PREFIX, Topic

# At DEBUG kafka-python writes every request into the log: users' texts, and the password at the SASL handshake.
# To see them all the same, set the logger's own level.
if (_kafka_log := logging.getLogger("kafka")).level == logging.NOTSET:
    _kafka_log.setLevel(logging.WARNING)

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_SOURCE = "/headrace/producer"
DEFAULT_HOME = ".headrace"
RUN_FILE = "run.json"
LOCK_FILE = "up.lock"  # holds the process id of the stack, from its start on

# The service of an address, and its form.
_ADDRESSES = {
    "HEADRACE_KAFKA": ("Kafka", "host:port"),
    "HEADRACE_REDIS": ("Redis", "redis://host:port/0"),
    "HEADRACE_LEDGER": ("the ledger", "postgresql+psycopg://USER@HOST/DATABASE"),
}

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Addresses and credentials of Kafka. The password never shows in `repr`."""

    bootstrap: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    groups: bool = True  # whether the broker's consumer groups can be relied on: see docs/configuration.md

    def __post_init__(self) -> None:
        _check_bootstrap(self.bootstrap)
        if self.security_protocol not in PROTOCOLS:
            raise ConfigurationError(
                f"HEADRACE_KAFKA_SECURITY_PROTOCOL is {self.security_protocol!r}; it may be {', '.join(PROTOCOLS)}"
            )
        if self.security_protocol.startswith("SASL"):
            _check_sasl(self.sasl_mechanism, self.username, self.password)

    @classmethod
    def at(cls, address: str, prefix: str = DEFAULT_PREFIX) -> Self:
        """Return settings for "host:port,host:port" without authentication."""
        return cls(bootstrap=_split(address), prefix=prefix)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read HEADRACE_KAFKA and its companions, else the address that a running `headrace up` wrote down.

        Raises ConfigurationError that names both ways when neither is there.
        """
        env = os.environ if env is None else env
        address = env.get("HEADRACE_KAFKA") or running_stack(env)["kafka"]
        return cls(
            bootstrap=_split(address),
            prefix=topic_prefix(env),
            security_protocol=env.get("HEADRACE_KAFKA_SECURITY_PROTOCOL") or "PLAINTEXT",
            sasl_mechanism=env.get("HEADRACE_KAFKA_SASL_MECHANISM") or None,
            username=env.get("HEADRACE_KAFKA_USERNAME") or None,
            password=env.get("HEADRACE_KAFKA_PASSWORD") or None,
            ca_file=env.get("HEADRACE_KAFKA_CA_FILE") or None,
            groups=_groups(env, address),
        )

    @property
    def address(self) -> str:
        """Return the bootstrap servers as one string, for messages."""
        return ",".join(self.bootstrap)

    @property
    def ingest_group(self) -> str:
        """Return the consumer group in which bridges commit what they have read."""
        return f"{self.prefix}ingest"

    def topic(self, topic: Topic) -> str:
        """Return a topic's name in Kafka."""
        return topic.named(self.prefix)

    def client_options(self) -> dict[str, Any]:
        """Return the arguments that every kafka-python client takes. They hold the password: never log them."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap),
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        if self.ca_file:
            options["ssl_cafile"] = self.ca_file
        return options


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings:
    """Defaults that a producer uses where a call sets no value."""

    tenant: str = "default"
    source: str = DEFAULT_SOURCE  # CloudEvents `source`: a URI reference that names the service
    model: str = DEFAULT_MODEL
    embedder: str = DEFAULT_EMBEDDER

    def __post_init__(self) -> None:
        if not is_uri_reference(self.source):
            raise ConfigurationError(
                f"HEADRACE_SOURCE is {self.source!r}, and must be a URI reference (RFC 3986), such as /shop/orders"
            )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read HEADRACE_TENANT, HEADRACE_SOURCE, HEADRACE_MODEL and HEADRACE_EMBEDDER, each with its default.

        Jobs for a running `headrace up` have its first model as their default.
        """
        env = os.environ if env is None else env
        found = {name: env.get(f"HEADRACE_{name.upper()}") for name in ("tenant", "source", "model")}
        if not (found["model"] or env.get("HEADRACE_KAFKA")):
            with suppress(ConfigurationError):  # no stack runs
                found["model"] = running_stack(env)["model"]
        found["embedder"] = embedder_alias(env.get("HEADRACE_EMBEDDER", ""))
        return replace(cls(), **{name: value for name, value in found.items() if value})


def topic_prefix(env: Mapping[str, str] | None = None) -> str:
    """Return HEADRACE_TOPIC_PREFIX, the prefix of a deployment's names in Kafka and in Redis."""
    env = os.environ if env is None else env
    return env.get("HEADRACE_TOPIC_PREFIX") or DEFAULT_PREFIX


def running_stack(env: Mapping[str, str] | None = None, lacking: str = "HEADRACE_KAFKA") -> dict[str, str]:
    """Return the content of `$HEADRACE_HOME/run.json`: addresses, `groups`, and the first `model` that is served.

    ConfigurationError when no stack runs there: it names `lacking`, the variable without which it is asked.
    """
    env = os.environ if env is None else env
    path = Path(env.get("HEADRACE_HOME") or DEFAULT_HOME) / RUN_FILE
    service, form = _ADDRESSES[lacking]
    ways = f"set {lacking}={form}, or start `headrace up` (HEADRACE_HOME names its folder)"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {name: str(content[name]) for name in ("kafka", "redis", "ledger")}
        found["groups"] = str(content.get("groups", "on"))
        found["model"] = str(content.get("model", ""))
        pid = int(content["pid"])
    except FileNotFoundError:
        why = f"no address of {service}: {lacking} is not set and {path} is not there; {ways}"
        raise ConfigurationError(_starting(path.parent) or why) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__}: {error}); {ways}") from error
    if not _alive(pid):
        why = f"the stack that wrote {path} (process {pid}) runs no more; {ways}"
        raise ConfigurationError(_starting(path.parent) or why)
    return found


def kafka_durable(env: Mapping[str, str] | None = None) -> bool | None:
    """Return HEADRACE_KAFKA_DURABLE: True if the broker's log survives the broker; None if the variable is not set."""
    setting = (os.environ if env is None else env).get("HEADRACE_KAFKA_DURABLE")
    if setting not in (None, "", "on", "off"):
        raise ConfigurationError(f"HEADRACE_KAFKA_DURABLE is {setting!r}; it may be on or off")
    return setting == "on" if setting else None


def _groups(env: Mapping[str, str], address: str) -> bool:
    """Return HEADRACE_KAFKA_GROUPS; if it is not set, the answer of a running stack for its own broker, and True for
    any other.
    """
    setting = env.get("HEADRACE_KAFKA_GROUPS")
    if not setting:
        try:
            stack = running_stack(env)
        except ConfigurationError:
            return True
        return stack["kafka"] != address or stack["groups"] != "off"
    if setting not in ("on", "off"):
        raise ConfigurationError(f"HEADRACE_KAFKA_GROUPS is {setting!r}; it may be on or off")
    return setting == "on"


def _starting(home: Path) -> str | None:
    """Return the words for a stack that is starting in this home; None if there is none."""
    try:
        pid = int((home / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not _alive(pid):
        return None
    return f"the stack in {home} is starting (process {pid}): try again in a moment"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _split(address: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in address.split(",") if part.strip())


def _check_bootstrap(bootstrap: tuple[str, ...]) -> None:
    if not bootstrap:
        raise ConfigurationError("HEADRACE_KAFKA is empty; it must be host:port or host:port,host:port")
    for server in bootstrap:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigurationError(f"HEADRACE_KAFKA has {server!r}, which is not host:port")


def _check_sasl(mechanism: str | None, username: str | None, password: str | None) -> None:
    if mechanism not in MECHANISMS:
        raise ConfigurationError(f"HEADRACE_KAFKA_SASL_MECHANISM is {mechanism!r}; it may be {', '.join(MECHANISMS)}")
    if not username or not password:
        raise ConfigurationError("SASL needs HEADRACE_KAFKA_USERNAME and HEADRACE_KAFKA_PASSWORD")
