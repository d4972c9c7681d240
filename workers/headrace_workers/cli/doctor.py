"""`headrace doctor`: whether the services are there and set as they should be, and what to do where they are not."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import typer

from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import hush_kafka, printable, put, put_json
from headrace_workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what is wrong with it; None: all is well."""

    what: str
    wrong: str | None = None


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("doctor")(doctor)


def doctor(as_json: JsonLinesOption = False) -> None:
    """Look at Kafka, its topics and their limits, the ledger, Redis, and what bridges say that they cannot do.

    Changes nothing. Exit code 1: something is wrong; each line says what to do.

    Example: `headrace doctor`
    """
    hush_kafka()
    findings = list(examine(Settings.from_env()))
    for finding in findings:
        if as_json:
            put_json({"what": finding.what, "ok": finding.wrong is None, "wrong": finding.wrong})
        else:
            put(printable(f"ok     {finding.what}" if not finding.wrong else f"WRONG  {finding.what}: {finding.wrong}"))
    raise typer.Exit(1 if any(finding.wrong for finding in findings) else 0)


def examine(settings: Settings) -> Iterator[Finding]:
    """A finding for each thing that was looked at, or several where several things are wrong with it.

    All are looked at side by side: what does not answer takes its time, and several take no longer than one.
    """
    with ThreadPoolExecutor(len(_LOOKS), thread_name_prefix="doctor") as threads:
        for what, wrong in zip(_LOOKS, threads.map(lambda look: _told(look, settings), _LOOKS.values()), strict=True):
            yield from [Finding(what, line) for line in wrong] or [Finding(what)]


def _told(look: Callable[[Settings], list[str]], settings: Settings) -> list[str]:
    try:
        return look(settings)
    except HeadraceError as error:
        return [str(error)]


def _limits(settings: Settings) -> list[str]:
    from headrace_producers.admin import too_small, topic_limits

    return too_small(settings.kafka, topic_limits(settings.kafka))


def _topics(settings: Settings) -> list[str]:
    from headrace_producers.admin import missing_topics
    from headrace_schemas.topics import Topic

    missing = missing_topics(settings.kafka, Topic)
    names = ", ".join(settings.kafka.topic(topic) for topic in missing)
    return [f"{names} are not there on {settings.kafka.address}: `headrace init` creates them"] if missing else []


def _ledger(settings: Settings) -> list[str]:
    from headrace_workers.ledger.migrate import require_current
    from headrace_workers.ledger.sql.database import connect

    engine = connect(settings.ledger)
    try:
        require_current(engine)
    finally:
        engine.dispose()
    return []


def _redis(settings: Settings) -> list[str]:
    import redis

    from headrace_workers.wire.redis_client import redis_client

    try:
        with redis_client(settings.redis) as client:
            client.ping()
    except redis.RedisError as error:
        raise Unavailable(
            f"it does not answer ({type(error).__name__}): start it, or correct HEADRACE_REDIS"
        ) from error
    return []


def _bridges(settings: Settings) -> list[str]:
    from headrace_workers.cli.status_views import trouble_lines
    from headrace_workers.ledger.ledger import Ledger

    ledger = Ledger.at(settings.ledger)
    try:
        return trouble_lines(ledger.overview())
    finally:
        ledger.close()


_LOOKS: dict[str, Callable[[Settings], list[str]]] = {
    "topics": _topics,
    "limits of topics": _limits,
    "ledger": _ledger,
    "redis": _redis,
    "bridges": _bridges,
}
