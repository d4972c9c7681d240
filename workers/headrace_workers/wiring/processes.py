"""The commands that run or prepare long-lived processes: bridge, worker, gateway, health, init, ledger."""

import ipaddress
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption
from headrace_workers.cli.output import hush_kafka, printable, put, put_json, say
from headrace_workers.core.log import Action, log
from headrace_workers.runtime.settings import GATEWAY_PORT, Settings, home_of, ledger_url

if TYPE_CHECKING:
    from headrace_producers.settings import KafkaSettings

_OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only", help="run only this duty: ingest, dispatch, relay, reap, metrics, batches or evals; may be repeated"
    ),
]
_SHOWN: Final = 80  # characters of an invalid address
READY: Final = "the gateway answers"


def bridge(only: _OnlyOption = None) -> None:
    """Run a bridge until SIGTERM. It moves work between Kafka, the ledger and the workers. Any number may run.

    Example: `headrace bridge`, or `headrace bridge --only ingest`
    """
    from headrace_schemas.errors import ConfigurationError
    from headrace_workers.cli.connections import is_durable
    from headrace_workers.core.ledger.incidents import noted_start
    from headrace_workers.core.machine import spare_what_is_loaded
    from headrace_workers.core.migrate import require_ledger
    from headrace_workers.runtime.bridge.bridge import all_duties
    from headrace_workers.runtime.health.watched import watched
    from headrace_workers.wiring.build_bridge import build_bridge

    unknown = sorted(set(only or ()) - set(all_duties()))
    if unknown:
        raise ConfigurationError(f"--only is {unknown[0]!r}; it may be {', '.join(all_duties())}")
    settings = Settings.from_env()
    require_ledger(settings.ledger, settings.kafka.prefix)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    duties = frozenset(only or all_duties())
    with noted_start(settings.ledger, "bridge"), watched("bridge", settings) as progress:
        built = build_bridge(settings, duties, progress, durable=is_durable())
        spare_what_is_loaded()
        built.run(stop)


def worker(
    role: Annotated[
        list[str],
        typer.Option("--role", help="recall, moderate, generate, judge, tune, deliver or all; may be repeated"),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="alias of the model that a generate worker loads")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="ask all models of models.toml; entries may change while it runs")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="number of groups that run at the same time")
    ] = None,
) -> None:
    """Run a worker until SIGTERM. It runs the steps of its roles.

    Examples: `headrace worker --role generate --model smollm2-135m-instruct`, `headrace worker --role generate
    --remote`
    """
    from headrace_schemas.errors import ConfigurationError
    from headrace_workers.core.ledger.incidents import noted_start
    from headrace_workers.core.migrate import require_ledger
    from headrace_workers.core.pipeline.routing import Pipeline
    from headrace_workers.core.pipeline.stage import MODEL_ROLE
    from headrace_workers.runtime.health.watched import watched
    from headrace_workers.runtime.worker.process import command_of
    from headrace_workers.wiring.build_worker import serve

    pipeline = Pipeline()
    roles = pipeline.roles_of(role)
    pipeline.queues_of(roles, model, remote=remote)
    if remote and (model is not None or MODEL_ROLE not in roles):
        raise ConfigurationError(f"--remote goes with --role {MODEL_ROLE}, and without --model")
    settings = Settings.from_env()
    require_ledger(settings.ledger, settings.kafka.prefix)
    with noted_start(settings.ledger, command_of(roles, model, remote=remote)), watched("worker", settings) as progress:
        code = serve(settings, roles, model, progress, remote=remote, concurrency=concurrency)
    raise typer.Exit(code)


def gateway(
    host: Annotated[str, typer.Option("--host", help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="the port; 0: any free port")] = GATEWAY_PORT,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="admit every program of this machine as HEADRACE_TENANT; loopback only"),
    ] = False,
) -> None:
    """Serve the HTTP API until SIGTERM. Any number may run. `headrace keys create` makes keys for it.

    Example: `headrace gateway --host 0.0.0.0`, then `curl -H "Authorization: Bearer $KEY" localhost:8420/v1/jobs/…`
    """
    from headrace_producers.settings import ProducerSettings
    from headrace_workers.cli.connections import is_durable
    from headrace_workers.core.ledger.incidents import noted_start
    from headrace_workers.core.machine import spare_what_is_loaded
    from headrace_workers.core.migrate import require_ledger
    from headrace_workers.runtime.health.watched import watched
    from headrace_workers.wiring.build_gateway import build_gateway
    from headrace_workers.wiring.http_server import Server, listen

    hush_kafka()
    if not host:  # to the system, all addresses that there are
        raise ConfigurationError("--host is empty: name an address, or 0.0.0.0 for all")
    if without_keys and not _is_loopback(host):
        raise ConfigurationError(f"--without-keys would admit everybody who reaches {host}: use it with 127.0.0.1 only")
    settings = Settings.from_env()
    require_ledger(settings.ledger, settings.kafka.prefix)
    try:
        listening = listen(host, port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except UnicodeError:  # of the codec of names
        raise ConfigurationError(f"cannot listen on {printable(host)[:_SHOWN]}: it is not an address") from None
    open_to = ProducerSettings.from_env().tenant if without_keys else None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the server has its own meanwhile, and gives the signal back at its end
    with noted_start(settings.ledger, "gateway"), watched("gateway", settings) as progress:
        services = build_gateway(settings, progress, durable=is_durable(), open_to=open_to)
        where = "http://{}:{}".format(f"[{host}]" if ":" in host else host, listening.getsockname()[1])
        server = Server(
            services, listening, lambda: log("gateway", logging.INFO, Action.STARTED, f"{READY} at {where}")
        )
        spare_what_is_loaded()  # the routes, too
        server.serve_until_told()
    log("gateway", logging.INFO, Action.STOPPED, "the gateway stopped")


def health(
    process: Annotated[str, typer.Argument(help="bridge, worker or gateway")],
    as_json: JsonLinesOption = False,
) -> None:
    """Exit with 0 if every bridge or worker of this deployment on this machine makes progress, else with 1.

    It names each loop that is stuck. If a service is away, processes are still healthy: the service is named, and they
    wait for it.

    Example: `headrace health worker`
    """
    from headrace_schemas.errors import ConfigurationError, Unavailable
    from headrace_workers.runtime.health.reports import KINDS, deployment_of, judge, reports

    if process not in KINDS:
        raise ConfigurationError(f"{process!r} is no kind of process: it may be {' or '.join(KINDS)}")
    found = reports(deployment_of(Settings.from_env()), process)
    for report in found if as_json else ():
        put_json(report.to_json())
    healthy, words = judge(process, found)
    if not healthy:
        raise Unavailable(words)
    if not as_json:
        put(words)


def init(
    pull: Annotated[list[str] | None, typer.Option("--pull", help="a model to pull; may be repeated")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="partitions of each topic")] = 8,
    replication: Annotated[int, typer.Option(min=1, help="replicas of each topic")] = 1,
    as_json: OneJsonOption = False,
) -> None:
    """Prepare a deployment: create the topics and the ledger's tables, and pull models. It is safe to run again.

    Example: `headrace init --pull smollm2-135m-instruct`
    """
    from headrace_producers.admin import ensure_topics
    from headrace_producers.settings import KafkaSettings
    from headrace_schemas import Topic
    from headrace_workers.core.migrations import known_version
    from headrace_workers.models.pull import pull as pull_model

    # Report what is missing before anything is made. Redis is not needed for this.
    kafka, ledger = KafkaSettings.from_env(), ledger_url()
    _require_prefix(ledger, kafka.prefix)
    tell: Callable[[str], None] = (lambda _line: None) if as_json else put
    ensure_topics(kafka, partitions=partitions, replication=replication)
    tell("topics: there")
    warnings = _limits(kafka)
    for warning in warnings:
        say(f"warning: {warning}")
    tables = _migrate(ledger)
    tell(f"ledger: version {known_version()}, {tables} tables, all there")
    for name in pull or ():
        pull_model(name, home_of(), quantization="int8")
        tell(f"model {name}: there")
    if as_json:
        topics = [kafka.topic(topic) for topic in Topic]
        put_json({"topics": topics, "warnings": warnings, "tables": tables, "models": pull or []})


def migrate(as_json: OneJsonOption = False) -> None:
    """Bring the ledger's tables up to date. Processes of the version before go on meanwhile. A run that was killed is
    finished by the next.

    Example: `HEADRACE_LEDGER=sqlite:///ledger.db headrace ledger migrate`
    """
    from headrace_workers.core.migrations import known_version

    tables = _migrate(ledger_url())
    if as_json:
        put_json({"tables": tables, "version": known_version()})
    else:
        put(f"ledger: version {known_version()}, {tables} tables, all there")


def bind(as_json: OneJsonOption = False) -> None:
    """Bind the ledger to the topics of HEADRACE_TOPIC_PREFIX on the Kafka cluster of HEADRACE_KAFKA.

    The first bridge does this itself. Later each process that finds another prefix or cluster refuses to start. Stop
    all bridges and run this after you move to another cluster or prefix.

    Example: `HEADRACE_KAFKA=kafka-new:9092 headrace ledger bind`
    """
    from headrace_producers.admin import cluster_id
    from headrace_workers.cli.connections import is_durable
    from headrace_workers.core.ledger.ledger import Fact, Ledger
    from headrace_workers.core.migrate import require_current

    settings = Settings.from_env()
    ledger = Ledger.at(settings.ledger)
    try:
        require_current(ledger.engine)
        cluster = cluster_id(settings.kafka) if is_durable() else None
        facts = {Fact.PREFIX: settings.kafka.prefix, **({Fact.CLUSTER: cluster} if cluster else {})}
        before = ledger.deployment.restate(facts)
    finally:
        ledger.close()
    if as_json:
        put_json({"before": before, "now": facts})
        return
    for fact, value in facts.items():
        put(f"{fact}: {value}" + (f" (was {before[fact]})" if before.get(fact, value) != value else ""))


def _limits(kafka: "KafkaSettings") -> list[str]:
    """Return which topics take less than we may have to tell, as far as this user may ask."""
    from headrace_producers.admin import too_small, topic_limits
    from headrace_schemas.errors import Unavailable

    try:
        return [f"{line}, else such events are set aside" for line in too_small(kafka, topic_limits(kafka))]
    except Unavailable as error:
        return [str(error)]


def _require_prefix(url: str, prefix: str) -> None:
    """Raise ConfigurationError if the ledger has tables, and belongs to topics with another prefix."""
    from headrace_workers.core.ledger.ledger import Deployment, Fact
    from headrace_workers.core.migrate import has_tables
    from headrace_workers.core.sql.database import connect

    engine = connect(url)
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():  # a look would make one
        return
    try:
        if has_tables(engine):
            Deployment(engine).require(Fact.PREFIX, prefix)
    finally:
        engine.dispose()


def _migrate(url: str) -> int:
    from headrace_workers.core.migrate import migrate as bring_up_to_date
    from headrace_workers.core.sql.database import connect

    engine = connect(url)
    try:
        return bring_up_to_date(engine)
    finally:
        engine.dispose()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
