"""Settings of bridges, workers and gateways by variables: addresses, and the settings of no single feature.

The settings of a feature stand in its own `settings.py`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import AfterValidator, Field, SkipValidation

from headrace_producers.settings import DEFAULT_HOME, KafkaSettings, running_stack
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import (
    Problems,
    Variables,
    environment,
    is_secret,
    number,
    secret_in,
    variable,
    variables_of,
)
from headrace_workers.core.feature import installed

GATEWAY_PORT: Final = 8420

V = TypeVar("V", bound=Variables)

# Variables of no group: addresses, those of docker-compose.yml, and those of clients in the documentation.
_OTHERS: Final = re.compile(
    r"HEADRACE_(HOME|REDIS|LEDGER(_PASSWORD(_FILE)?)?|\w+_(CPUS|MEMORY)|(KAFKA|GATEWAY)_PORT|KAFKA_RETENTION_HOURS"
    r"|API_KEY|BASE_URL|VERSION)"
)

_ALL: Final = "all processes"


class ModelSettings(Variables):
    """Settings of the models that a deployment serves for jobs that name none of their kind."""

    title: ClassVar[str] = "Models that jobs do not name"

    judge_model: str | None = variable(
        None,
        "The model that answers rubrics that name none; unset: the job's own model. `headrace up` and `headrace run` "
        "serve it too, and set it to their first model where it is unset.",
        read_by="bridges, workers, gateways, `headrace up` and `headrace run`",
    )
    accept_untrusted: bool = variable(
        False,
        "Let models judge that failed their last `headrace bench judge` with this home. Without it, they give no "
        "scores, and `headrace up` and `headrace run` refuse them as HEADRACE_JUDGE_MODEL.",
        read_by="workers, `headrace up` and `headrace run`",
    )
    embedder: str = variable(
        DEFAULT_EMBEDDER,
        "The embedder that makes the vectors of questions, of passages and of embedding jobs: an embedder of "
        "`headrace models pull`, or `sentence-transformers:NAME`. Jobs name the latter by the last part of NAME in "
        "small letters.",
        read_by="bridges, gateways, workers that recall, embed or moderate, and commands",
    )


class GatewaySettings(Variables):
    """Settings of gateways."""

    title: ClassVar[str] = "Gateway"

    rate: float = number(
        1_000.0,
        "Requests and jobs a second that a tenant may send, ten seconds' worth at a time. 0: any number.",
        read_by="gateways",
        ge=0,
    )
    max_body: int = 8_388_608  # bytes of a request's body, where its path has no bound of its own
    # Seconds that the next interactive job of a queue may have waited before more jobs for it are refused with 429.
    max_queue_age: float = 600.0
    max_answer_wait: float = 300.0  # seconds that a request of an OpenAI client waits, where the client does not say
    public_url: Annotated[str, AfterValidator(lambda url: url.rstrip("/"))] = variable(
        "",
        "The gateway's address as its clients reach it. Links in webhooks and in evals begin with it, and the console "
        "takes forms only from pages at this address. Unset: a gateway on loopback takes its own address.",
        read_by="bridges, workers and gateways",
    )


class Settings(Variables):
    """Settings of a bridge, a worker or a gateway. Durations are in seconds. Secrets never show in `repr`. `parts` are
    the groups that do not have their defaults.
    """

    title: ClassVar[str] = "Bridges and workers"

    home: Path
    kafka: SkipValidation[KafkaSettings]
    redis: str = Field(repr=False)
    ledger: str = Field(repr=False)
    parts: tuple[Variables, ...] = ()

    lease: float = number(
        30.0,
        "Seconds that a claim holds without a sign of life. Work of a dead worker is taken up again after that.",
        read_by=_ALL,
        ge=0.1,  # nobody could renew a shorter one in time
        le=86_400,
    )
    quantum: float = number(
        15.0,
        "Seconds that a group of bulk work may keep a slot of a worker. Interactive work has one slot more.",
        read_by="workers",
    )
    group_size: int = 64  # most steps of one group
    max_attempts: int = number(
        8, "Runs of one step before a transient failure is final.", read_by="workers", ge=1, le=10_000
    )
    # Deaths of a worker that ran one job alone, before the job is poison. An evaluation or a batch fails after as many
    # deaths of a bridge that read its rows, or its input at the same line.
    max_crashes: int = 3
    max_active: int = number(
        200_000,
        "Jobs in the ledger before ingest pauses and gateways refuse more. All batches together have half of it.",
        read_by="bridges and gateways",
    )
    retention: float = number(
        7 * 86_400.0,
        "Seconds that ended jobs are remembered, and so is what follows their events, where its stage has no "
        "`retention` of its own.",
        read_by="bridges",
    )
    stuck: float = number(
        120.0,
        "Seconds that a loop of a process may be silent before the process ends itself, to be started again. One round "
        "of a loop may take a minute when a service is slow. `headrace up` kills a process that gave no sign of life "
        "for that and a lease, and starts it again: raise the value for a process that you stop, or run under a "
        "debugger. The kernel ends (SIGPROF) a process that computes for as long, times the cores, and lets none of "
        "its threads go on.",
        read_by="all processes and `headrace up`",
    )
    longest_run: float = number(
        600.0,
        "Seconds that a group's run may take, whatever it is; more is added for its tokens, by the speed that was "
        "measured. A run that takes longer hangs: its process ends itself, to be started again, and a job that hangs "
        "alone again and again is poison. Raise it for a model whose first call needs more, or that writes less than a "
        "token in three seconds.",
        read_by="workers",
    )
    hold: float = number(
        7 * 86_400.0,
        "Seconds that a job may be held, for a person or until something that is down works again. Then it is "
        "withheld: it ends as `expired`.",
        read_by="bridges",
    )

    @property
    def lease_ms(self) -> int:
        """Return the lease in milliseconds."""
        return int(self.lease * 1000)

    def of(self, kind: type[V]) -> V:
        """Return the settings of another group, such as those of a feature."""
        return next((part for part in self.parts if isinstance(part, kind)), None) or kind()

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read HEADRACE_* with the settings of all features; addresses that are not set come from a running
        `headrace up`. ConfigurationError names each variable that is missing or wrong, and what it may be.
        """
        env = environment(env)
        problems, parts = Problems(), list[Variables]()
        addresses: dict[str, Any] = {"kafka": None, "redis": "", "ledger": ""}
        with problems.collect():
            addresses |= {"kafka": KafkaSettings.from_env(env), "redis": _redis_url(env), "ledger": ledger_url(env)}
        for kind in other_groups():
            with problems.collect():
                parts.append(kind.from_env(env))
        with problems.collect():
            settings = cls._read(env, home=home_of(env), parts=tuple(parts), **addresses)
        problems.tell()
        return settings


def other_groups() -> tuple[type[Variables], ...]:
    """Return the groups of settings in addition to `Settings` itself: the groups in this module, and the features'
    groups."""
    return (ModelSettings, GatewaySettings, *(kind for feature in installed() for kind in feature.settings()))


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """Return the HEADRACE_* variables that nothing reads, sorted: their names may have a slip. The variables of
    docker-compose.yml itself are known, since shells often read the same .env.
    """
    from headrace_producers.variables import JOBS, KAFKA

    named = sorted(name for name in env if name.startswith("HEADRACE_") and not _OTHERS.fullmatch(name))
    known = {variable.name for variable in (*KAFKA, *JOBS)}
    kinds: tuple[type[Variables], ...] = (Settings, *other_groups())
    for kind in kinds:
        for name, field in variables_of(kind).items():
            known |= {name, f"{name}_FILE"} if is_secret(field) else {name}
    return [name for name in named if name not in known]


def home_of(env: Mapping[str, str] | None = None) -> Path:
    """Return HEADRACE_HOME, or `.headrace` in the current folder."""
    return Path(environment(env).get("HEADRACE_HOME") or DEFAULT_HOME)


def names_a_deployment(env: Mapping[str, str] | None = None) -> bool:
    """Return True if the environment says where Kafka and the ledger are."""
    env = environment(env)
    return bool(env.get("HEADRACE_KAFKA") and env.get("HEADRACE_LEDGER"))


def _redis_url(env: Mapping[str, str]) -> str:
    if url := env.get("HEADRACE_REDIS"):
        check_redis_url(url)
        return url
    return running_stack(env, "HEADRACE_REDIS")["redis"]


def check_redis_url(url: str) -> None:
    """Raise ConfigurationError when this is no URL of a Redis; the message leaves it out, for it may hold a
    password.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError("HEADRACE_REDIS is no URL of a Redis: use redis://HOST:PORT/0, rediss:// or unix://")


def ledger_url(env: Mapping[str, str] | None = None) -> str:
    """Return HEADRACE_LEDGER with the password from HEADRACE_LEDGER_PASSWORD or the file that …_PASSWORD_FILE names."""
    env = environment(env)
    url = env.get("HEADRACE_LEDGER")
    if not url:
        return running_stack(env, "HEADRACE_LEDGER")["ledger"]
    if not (password := secret_in(env, "HEADRACE_LEDGER_PASSWORD")):
        return url
    from headrace_workers.core.sql.database import parsed_url

    return parsed_url(url).set(password=password).render_as_string(hide_password=False)
