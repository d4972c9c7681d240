"""The only place of this package that reads the environment. `docs/configuration.md` lists what may be set."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from headrace_producers.settings import DEFAULT_HOME, KafkaSettings, running_stack
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.callback import MAX_BODY
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.recall import CacheMode
from headrace_workers.features.generation.engines.hardware import Device
from headrace_workers.features.generation.engines.prefixes import MOST_TOKENS
from headrace_workers.features.webhooks.allowed_targets import DEFAULT_PORTS, Network, Reach, networks_of, ports_of
from headrace_workers.features.webhooks.sealing import keys_of

AUDIT_SHARE: Final = 0.05
GATEWAY_PORT: Final = 8420

E = TypeVar("E", bound=StrEnum)


class Switch(StrEnum):
    """Whether something is done; the first is the default."""

    OFF = "off"
    ON = "on"


class HttpUse(StrEnum):
    """Whether webhooks may go by http: never, or to this machine's own addresses, for development."""

    NEVER = "never"
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a bridge or a worker is told from outside. Durations are in seconds. Secrets never show in `repr`."""

    home: Path
    kafka: KafkaSettings
    redis: str = field(repr=False)
    ledger: str = field(repr=False)
    # How long a claim holds without a sign of life. Work of a dead worker is taken up again after this.
    lease: float = 30.0
    # How long a group of bulk work may keep a worker, so that an interactive job never waits longer.
    quantum: float = 15.0
    group_size: int = 64  # steps of one group at most
    linger: float = 0.3  # how long a model's batch work waits for company, when it makes no full group
    queue_depth: int = 2  # groups that wait in Redis, a queue and lane: enough to keep workers busy, too few to age
    max_attempts: int = 8  # runs of one step, before a transient failure is final
    max_crashes: int = 3  # deaths of a worker that ran one job alone, before the job is poison
    max_active: int = 200_000  # jobs in the ledger, before ingest pauses
    retention: float = 7 * 86_400.0  # how long ended jobs are remembered
    # How long a loop of a bridge or worker may be silent before its process ends itself, to be started again. Every
    # call that a loop makes is bounded by less.
    stuck: float = 120.0
    # How long any run may take, and more for its tokens: see bound.py. What takes longer hangs, and ends its process.
    longest_run: float = 600.0
    cache: CacheMode = CacheMode.OFF  # for jobs that do not say which earlier answers are good enough
    embedder: str = DEFAULT_EMBEDDER  # makes the vectors by which a question is found in other words
    similarity: float = 0.8  # of two questions, from which on one's answer may be given to the other
    max_error: float = 0.01  # the largest share of wrong answers among those that likeness serves, by scope
    audit_share: float = AUDIT_SHARE  # of what likeness serves: it is answered afresh, to see how often that is wrong
    cache_ttl: float = 7 * 86_400.0  # how long an answer may be given again
    # What a passage needs before an answer may rest on it: the cosine of its vector to the question's.
    relevance: float = 0.35
    passage_tokens: int = 1_000  # of a prompt at most, for passages
    reranker: str | None = None  # puts passages into another order: see features/knowledge/rerankers/load.py
    rerank_time: float = 2.0  # how long it may take for one question
    cache_max_entries: int = 100_000  # answers of one tenant that may be given again, at most; 0: any number
    # How long a job waits for another that makes the same answer, before it makes its own.
    max_wait: float = 120.0
    webhook_networks: tuple[Network, ...] = ()  # that webhooks may go to, beside the internet
    webhook_ports: frozenset[int] = DEFAULT_PORTS
    webhook_http: HttpUse = HttpUse.NEVER
    webhook_key: tuple[bytes, ...] = field(default=(), repr=False)  # seal the secrets of webhooks in the ledger
    webhook_bytes: int = MAX_BODY  # of one webhook's body, at most
    public_url: str = ""  # of the gateway, as its clients reach it: for links
    rate: float = 1_000.0  # requests and jobs a second that a tenant may send to gateways; 0: any number
    max_evals: int = 1_000  # evals of one tenant; 0, as of the two that follow: any number
    max_eval_runs: int = 20  # runs of evals of one tenant that have not ended
    max_eval_bytes: int = 5_000_000_000  # that evals of one tenant, their runs and what came of items keep
    max_file_bytes: int = 100_000_000_000  # that files of one tenant, and its pending uploads, keep; 0: any number
    max_uploads: int = 100  # uploads of one tenant that are pending; 0: any number
    max_body: int = 8_388_608  # bytes of a request's body, where its path has no bound of its own
    # How long the next interactive job of a queue may have waited, before gateways refuse more for it.
    max_queue_age: float = 600.0
    max_answer_wait: float = 300.0  # that a request may wait for its answer, where the client does not say
    judge_model: str | None = None  # answers rubrics that name no model
    hold: float = 7 * 86_400.0  # how long an output may be held before it is withheld
    detector_time: float = 10.0  # that moderation may take for a group of texts, and 1 s more for 10,000 characters
    screen: Switch = Switch.OFF  # moderate the prompts of jobs that do not say whether that is to be
    moderation_key: str | None = field(default=None, repr=False)  # of the endpoint that the policy names
    policy: Path | None = None  # moderation policy; absent: the one in the package
    files: str = field(default="", repr=False)  # where files lie: a folder, or a URL that fsspec knows
    files_retention: float = 30 * 86_400.0  # how long batches, and files that are theirs, are kept
    batch_window: int = 20_000  # lines of one batch that are under way at a time
    device: Device = "auto"
    compute_type: str | None = None
    inter_threads: int | None = None
    prefix_tokens: int = MOST_TOKENS  # of all system prompts that a worker keeps computed; 0: none is shared

    @property
    def batch_lines(self) -> int:
        """Lines of all batches that are under way at a time: ingest, which pauses at `max_active`, is not theirs."""
        return max(1, self.max_active // 2)

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return int(self.lease * 1000)

    @property
    def webhook_reach(self) -> Reach:
        """Where webhooks may go."""
        return Reach(self.webhook_networks, self.webhook_ports, self.webhook_http is HttpUse.LOOPBACK)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Settings":
        """Read HEADRACE_*; addresses that are not set come from a running `headrace up`.

        ConfigurationError names the variable that is missing or wrong, and what it may be.
        """
        env = os.environ if env is None else env
        numbers = _numbers(env)
        if url := env.get("HEADRACE_REDIS"):
            check_redis_url(url)
        reach = webhook_reach(env)
        return cls(
            home=home_of(env),
            kafka=KafkaSettings.from_env(env),
            redis=env.get("HEADRACE_REDIS") or running_stack(env, "HEADRACE_REDIS")["redis"],
            ledger=ledger_url(env),
            audit_share=_share(env, "HEADRACE_AUDIT_SHARE", AUDIT_SHARE),
            cache=cache_mode(env),
            embedder=embedder_name(env),
            reranker=env.get("HEADRACE_RERANKER") or None,
            webhook_networks=reach.networks,
            webhook_ports=reach.ports,
            webhook_http=_one_of(env, "HEADRACE_WEBHOOK_HTTP", HttpUse),
            webhook_key=webhook_keys(env),
            public_url=(env.get("HEADRACE_PUBLIC_URL") or "").rstrip("/"),
            files=files_of(env),
            judge_model=judge_name(env),
            screen=_one_of(env, "HEADRACE_SCREEN", Switch),
            moderation_key=moderation_key(env),
            policy=policy_of(env),
            device=_device(env),
            compute_type=env.get("HEADRACE_COMPUTE_TYPE") or None,
            **numbers,
        )


_NUMBERS: Mapping[str, Callable[[str], float | int]] = {
    "lease": float,
    "quantum": float,
    "group_size": int,
    "linger": float,
    "queue_depth": int,
    "max_attempts": int,
    "max_crashes": int,
    "max_active": int,
    "retention": float,
    "files_retention": float,
    "batch_window": int,
    "stuck": float,
    "longest_run": float,
    "similarity": float,
    "max_error": float,
    "relevance": float,
    "passage_tokens": int,
    "rerank_time": float,
    "cache_ttl": float,
    "cache_max_entries": int,
    "max_wait": float,
    "hold": float,
    "detector_time": float,
    "inter_threads": int,
    "prefix_tokens": int,
    "webhook_bytes": int,
    "rate": float,
    "max_evals": int,
    "max_eval_runs": int,
    "max_eval_bytes": int,
    "max_file_bytes": int,
    "max_uploads": int,
    "max_body": int,
    "max_queue_age": float,
    "max_answer_wait": float,
}

# A hundred years, in seconds: more than anybody means, and far below what the database can count.
_MOST = 100 * 365 * 86_400
# What must be in narrower bounds: below a lease's least nobody could renew it in time, and of a group's steps, as of
# attempts and crashes, the ledger counts no more.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "HEADRACE_LEASE": (0.1, 86_400),
    "HEADRACE_GROUP_SIZE": (1, 10_000),
    "HEADRACE_MAX_ATTEMPTS": (1, 10_000),
    "HEADRACE_MAX_CRASHES": (1, 1_000),
}

_MAY_BE_0 = frozenset(
    {
        "HEADRACE_CACHE_MAX_ENTRIES", "HEADRACE_PREFIX_TOKENS", "HEADRACE_RATE", "HEADRACE_MAX_EVALS",
        "HEADRACE_MAX_EVAL_RUNS", "HEADRACE_MAX_EVAL_BYTES", "HEADRACE_MAX_FILE_BYTES", "HEADRACE_MAX_UPLOADS",
    }
)  # fmt: skip


def embedder_name(env: Mapping[str, str] | None = None) -> str:
    """HEADRACE_EMBEDDER: the model that makes vectors of questions and documents."""
    env = os.environ if env is None else env
    return env.get("HEADRACE_EMBEDDER") or DEFAULT_EMBEDDER


def policy_of(env: Mapping[str, str] | None = None) -> Path | None:
    """HEADRACE_POLICY: the moderation policy; None is the one in the package."""
    env = os.environ if env is None else env
    return Path(policy) if (policy := env.get("HEADRACE_POLICY")) else None


def moderation_key(env: Mapping[str, str] | None = None) -> str | None:
    """The key in HEADRACE_MODERATION_KEY, or in the file that HEADRACE_MODERATION_KEY_FILE names."""
    env = os.environ if env is None else env
    key = env.get("HEADRACE_MODERATION_KEY")
    if file := env.get("HEADRACE_MODERATION_KEY_FILE"):
        try:
            key = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"HEADRACE_MODERATION_KEY_FILE: cannot read {file}: {error.strerror}") from error
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError("HEADRACE_MODERATION_KEY holds what no header may: a key is one line of ASCII")
    return key or None


def webhook_reach(env: Mapping[str, str] | None = None) -> Reach:
    """HEADRACE_WEBHOOK_NETWORKS, HEADRACE_WEBHOOK_PORTS and HEADRACE_WEBHOOK_HTTP: where webhooks may go."""
    env = os.environ if env is None else env
    networks = env.get("HEADRACE_WEBHOOK_NETWORKS", "").replace(",", " ").split()
    ports = env.get("HEADRACE_WEBHOOK_PORTS", "").replace(",", " ").split()
    return Reach(
        networks=networks_of(networks, "HEADRACE_WEBHOOK_NETWORKS"),
        ports=ports_of(ports, "HEADRACE_WEBHOOK_PORTS") or DEFAULT_PORTS,
        http_loopback=_one_of(env, "HEADRACE_WEBHOOK_HTTP", HttpUse) is HttpUse.LOOPBACK,
    )


def webhook_keys(env: Mapping[str, str] | None = None) -> tuple[bytes, ...]:
    """The keys of HEADRACE_WEBHOOK_KEY, or of the file that HEADRACE_WEBHOOK_KEY_FILE names."""
    env = os.environ if env is None else env
    if file := env.get("HEADRACE_WEBHOOK_KEY_FILE"):
        try:
            return keys_of(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"HEADRACE_WEBHOOK_KEY_FILE: cannot read {file}: {error.strerror}") from error
    return keys_of(env.get("HEADRACE_WEBHOOK_KEY"))


def figure(name: str, env: Mapping[str, str] | None = None) -> float:
    """One number of `Settings`, by its name, for what needs no address of a service. ConfigurationError as there."""
    defaults = {field.name: field.default for field in fields(Settings)}
    return float({**defaults, **_numbers(os.environ if env is None else env)}[name])


def _numbers(env: Mapping[str, str]) -> dict[str, Any]:
    """The numbers that the environment names."""
    numbers: dict[str, Any] = {
        name: _number(env, f"HEADRACE_{name.upper()}", kind)
        for name, kind in _NUMBERS.items()
        if env.get(f"HEADRACE_{name.upper()}")
    }
    for name, then in (("similarity", "nothing would be served"), ("relevance", "no passage would be used")):
        if numbers.get(name, 0.0) > 1:
            variable = f"HEADRACE_{name.upper()}"
            raise ConfigurationError(f"{variable} is {env[variable]!r}; it must be 1 at most, as a cosine is: {then}")
    if numbers.get("max_error", 0.0) >= 1:
        raise ConfigurationError(f"HEADRACE_MAX_ERROR is {env['HEADRACE_MAX_ERROR']!r}; it must be below 1")
    return numbers


def _device(env: Mapping[str, str]) -> Device:
    name = env.get("HEADRACE_DEVICE") or "auto"
    if name not in get_args(Device):
        raise ConfigurationError(f"HEADRACE_DEVICE is {name!r}; it may be {', '.join(get_args(Device))}")
    return name  # type: ignore[return-value]


def _one_of(env: Mapping[str, str], name: str, kind: type[E]) -> E:
    """The first of these is the default."""
    value = env.get(name) or next(iter(kind)).value
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(f"{name} is {value!r}; it may be {', '.join(each.value for each in kind)}") from None


def _share(env: Mapping[str, str], name: str, default: float) -> float:
    """A number from 0 to 1."""
    value = env.get(name)
    if not value:
        return default
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ConfigurationError(f"{name} is {value!r}; it must be a number from 0 to 1")
    return share


def _number(env: Mapping[str, str], name: str, kind: Callable[[str], float | int]) -> float | int:
    try:
        value = kind(env[name])
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigurationError(f"{name} is {env[name]!r}; it must be {wanted}") from None
    if value == 0 and name in _MAY_BE_0:
        return value
    if not 0 < value < math.inf:  # nan is neither
        raise ConfigurationError(f"{name} is {env[name]!r}; it must be above 0 and finite")
    least, most = _BOUNDS.get(name, (0, _MOST))
    if not least <= value <= most:
        wanted = f"from {least:g} to {most:,}" if least else f"{most:,} at most"
        raise ConfigurationError(f"{name} is {env[name]!r}; it must be {wanted}")
    return value


def check_redis_url(url: str) -> None:
    """ConfigurationError when this is no URL of a Redis; the message leaves it out, for it may hold a password."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError("HEADRACE_REDIS is no URL of a Redis: use redis://HOST:PORT/0, rediss:// or unix://")


def home_of(env: Mapping[str, str] | None = None) -> Path:
    """HEADRACE_HOME, or `.headrace` in the current folder."""
    env = os.environ if env is None else env
    return Path(env.get("HEADRACE_HOME") or DEFAULT_HOME)


def cache_mode(env: Mapping[str, str] | None = None) -> CacheMode:
    """HEADRACE_CACHE: which earlier answers are good enough for jobs that do not say."""
    return _one_of(os.environ if env is None else env, "HEADRACE_CACHE", CacheMode)


def judge_name(env: Mapping[str, str] | None = None) -> str | None:
    """HEADRACE_JUDGE_MODEL: who answers rubrics that name no model."""
    env = os.environ if env is None else env
    return env.get("HEADRACE_JUDGE_MODEL") or None


def files_of(env: Mapping[str, str] | None = None) -> str:
    """HEADRACE_FILES, or the folder `files` of the home."""
    env = os.environ if env is None else env
    return env.get("HEADRACE_FILES") or str(home_of(env) / "files")


def ledger_url(env: Mapping[str, str] | None = None) -> str:
    """HEADRACE_LEDGER with the password from HEADRACE_LEDGER_PASSWORD or the file that …_PASSWORD_FILE names."""
    env = os.environ if env is None else env
    url = env.get("HEADRACE_LEDGER")
    if not url:
        return running_stack(env, "HEADRACE_LEDGER")["ledger"]
    password = env.get("HEADRACE_LEDGER_PASSWORD")
    if file := env.get("HEADRACE_LEDGER_PASSWORD_FILE"):
        try:
            password = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"HEADRACE_LEDGER_PASSWORD_FILE: cannot read {file}: {error.strerror}") from error
    if not password:
        return url
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).set(password=password).render_as_string(hide_password=False)
    except ArgumentError as error:
        raise ConfigurationError(
            "HEADRACE_LEDGER is no database URL: use sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
