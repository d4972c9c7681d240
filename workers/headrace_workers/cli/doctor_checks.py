"""The checks of `headrace doctor`, and what they say if something is wrong.

All that checks need is imported before they run side by side: threads that import one library at the same moment may
find half of it, as of SQLAlchemy.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import kafka.admin  # noqa: F401 - two checks load it where they ask Kafka
import redis

from headrace_producers.admin import cluster_id, missing_topics, too_small, topic_limits
from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable
from headrace_schemas.topics import Topic
from headrace_workers.cli.connections import is_durable
from headrace_workers.cli.status_views import incident_words, redis_is_away, trouble_lines
from headrace_workers.core.feature import Check, Finding, installed
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.core.migrate import require_current
from headrace_workers.core.redis import redis_client
from headrace_workers.core.sql.database import connect
from headrace_workers.runtime.settings import Settings


class _NotLookedAt(HeadraceError):
    """The check needs a ledger that another check has found refused."""


def all_checks() -> tuple[Check, ...]:
    """Return the checks of the services, then the features' checks."""
    return (*_SERVICES, *(check for feature in installed() for check in feature.checks()))


def examine(checks: Sequence[Check], settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each thing that was looked at, or several where several things are wrong with it; none for a
    thing that cannot be looked at until another one is mended.

    All are looked at side by side: what does not answer takes its time, and several take no longer than one.
    """
    with ThreadPoolExecutor(len(checks), thread_name_prefix="doctor") as threads:
        for findings in threads.map(lambda check: _findings_of(check, settings), checks):
            yield from findings


def _findings_of(check: Check, settings: Settings) -> list[Finding]:
    try:
        findings = [Finding(check.what, item) if isinstance(item, str) else item for item in check.look(settings)]
    except _NotLookedAt:
        return []
    except HeadraceError as error:
        findings = [Finding(check.what, str(error))]
    return (
        findings
        if any(finding.wrong and finding.what == check.what for finding in findings)
        else [Finding(check.what), *findings]
    )


@contextmanager
def _open_ledger(settings: Settings) -> Iterator[Ledger]:
    """Yield the ledger. Raise _NotLookedAt if its tables are not those of this version: the check of the ledger says
    so, and a question about them would only fail.
    """
    ledger = Ledger.at(settings.ledger)
    try:
        try:
            require_current(ledger.engine)
        except ConfigurationError as error:
            raise _NotLookedAt(str(error)) from error
        yield ledger
    finally:
        ledger.close()


def _limits(settings: Settings) -> list[str]:
    return too_small(settings.kafka, topic_limits(settings.kafka))


def _topics(settings: Settings) -> list[str]:
    missing = missing_topics(settings.kafka, Topic)
    names = ", ".join(settings.kafka.topic(topic) for topic in missing)
    return [f"{names} are not there on {settings.kafka.address}: `headrace init` creates them"] if missing else []


def _ledger(settings: Settings) -> list[str]:
    engine = connect(settings.ledger)
    try:
        require_current(engine)
    finally:
        engine.dispose()
    return []


def _deployment(settings: Settings) -> list[str]:
    with _open_ledger(settings) as ledger:
        found = {Fact.PREFIX: settings.kafka.prefix}
        if is_durable() and Fact.CLUSTER in ledger.deployment.stated():
            found[Fact.CLUSTER] = cluster_id(settings.kafka) or ""
        return [reason for fact, value in found.items() if (reason := ledger.deployment.differs(fact, value))]


def _redis(settings: Settings) -> list[str]:
    try:
        with redis_client(settings.redis) as client:
            client.ping()
    except redis.RedisError as error:
        raise Unavailable(redis_is_away(type(error).__name__)) from error
    return []


def _reported(settings: Settings) -> list[Finding]:
    """Return what the ledger knows of bridges and of other processes, under the name of each."""
    with _open_ledger(settings) as ledger:
        overview = ledger.overview()
    findings = [Finding(_BRIDGES, line) for line in trouble_lines((), overview.held, overview.set_aside)]
    for incident in overview.incidents:
        what, line = _reporter(incident), incident_words(incident)
        if not incident.subject.startswith(_PROGRAM):  # else it is the name of the finding
            line = f"{incident.subject}: {line}"
        if incident.is_over:
            findings.append(Finding(what, was=line))
        elif not incident.mends_itself:
            findings.append(Finding(what, line))
    return sorted(findings, key=lambda finding: (finding.what != _BRIDGES, finding.wrong is None))


def _reporter(incident: Incident) -> str:
    """Return the name under which an incident is shown: a process that was killed by its command, others by what
    reports them.
    """
    if incident.subject.startswith(_PROGRAM):
        return incident.subject.removeprefix(_PROGRAM)
    kind = incident.holder.partition("@")[0].removeprefix("the ")
    return {"bridge": _BRIDGES, "ledger": _BRIDGES, "models": "calls of models"}.get(kind, kind)


_PROGRAM: Final = "headrace "
_BRIDGES: Final = "bridges"
_SERVICES: Final = (
    Check("topics", _topics),
    Check("limits of topics", _limits),
    Check("ledger", _ledger),
    Check("deployment", _deployment),
    Check("redis", _redis),
    Check(_BRIDGES, _reported),
)
