"""The page of all settings, from their models."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, Final

from pydantic.fields import FieldInfo

from headrace_producers.settings import DEFAULT_HOME
from headrace_producers.variables import JOBS, KAFKA, Variable
from headrace_workers.core.environment import MOST, Variables, allowed, is_secret, read_by, variables_of
from headrace_workers.runtime.settings import Settings, other_groups
from tools.reference.markdown_text import beginning, code, table

_ALL: Final = "all processes and commands"
_RUNNING: Final = "the running `headrace up`"

_PLACES: Final = (
    Variable(
        "HEADRACE_HOME",
        f"`{DEFAULT_HOME}`",
        "a folder",
        "Models, the index of workers that recall (`recall/`: it may be lost), and the files of `headrace up`: "
        "`run.json`, logs, ledger.",
        "producers, all processes and commands",
    ),
    Variable("HEADRACE_REDIS", _RUNNING, "`redis://host:port/0`, `rediss://…`, `unix://…`", "Where Redis is.", _ALL),
    Variable(
        "HEADRACE_LEDGER",
        _RUNNING,
        "`sqlite:////absolute/path.db`, `postgresql+psycopg://user@host/database`",
        "Where the ledger is.",
        _ALL,
    ),
    Variable("HEADRACE_LEDGER_PASSWORD", "", "", "The ledger's password, kept out of the URL.", _ALL),
    Variable("HEADRACE_LEDGER_PASSWORD_FILE", "", "a file", "A file with it; wins over the variable above.", _ALL),
    Variable(
        "KAFKA_HOME",
        "",
        "a folder",
        "An unpacked Apache Kafka that `headrace up` starts (needs Java 17); its log is durable.",
        "`headrace up` and `headrace run`",
    ),
)
_INTRODUCTION: Final = f"""\
Everything is set by environment variables. Each group of settings is a model in the code, in `runtime/settings.py` or
in the `settings.py` of a feature, and this page is made from those models.

- Give the bridge, every worker and every gateway of a deployment the same values.
- A variable that is empty counts as unset.
- Durations are in seconds. A number is at most {MOST:,}, unless a smaller bound is given.
- A process with wrong values does not start. It names every variable that is wrong, its value, and what it may be; it
  never shows a secret.
- A secret may lie in a file, such as a Docker secret: name the file in the variable that ends in `_FILE`.
"""
_AFTER_PLACES: Final = """\
`headrace up` and `headrace run` start the services that are not named here.

**Time limits of the ledger.** One statement may take 10 s (`?timeout=30` at the end of the URL says 30; SQLite waits so
long for other processes). After 2 s more the connection is closed, even if the server is silent, and a transaction that
idles for as long is ended. Migrations have no limit. Connecting may take 5 s for each address, and sent data may stay
unacknowledged for 10 s; libpq's own words in the URL change that:
`?connect_timeout=3&tcp_user_timeout=5000&keepalives_idle=5`. Bridges and workers retry for as long as the ledger is
away, read-only after a failover, shutting down, full, out of connections, in a deadlock or locked. For a failover name
all servers: `postgresql+psycopg://user@/database?host=a:5432&host=b:5432&target_session_attrs=read-write`.
"""


def page() -> str:
    """Return the page of all settings, in Markdown."""
    parts = [
        beginning("Configuration", "the settings in the code", _INTRODUCTION),
        _section("Where things are", _PLACES),
        _AFTER_PLACES,
        _section("Kafka", KAFKA),
    ]
    parts.append(_section("Jobs that do not say", JOBS))
    parts += (_section(kind.title, _rows(kind)) for kind in _groups())
    return "\n".join(parts)


def described() -> Iterator[str]:
    """Yield the names of all variables that the page describes."""
    yield from (place.name for place in (*_PLACES, *KAFKA, *JOBS))
    yield from (row.name for kind in _groups() for row in _rows(kind))


def _groups() -> Iterator[type[Variables]]:
    yield Settings
    yield from other_groups()


def _section(title: str, rows: Iterable[Variable]) -> str:
    return f"## {title}\n\n" + table(("variable", "default", "meaning"), map(_row, rows))


def _row(variable: Variable) -> tuple[str, str, str]:
    name, default, values, does, by = variable
    facts = [f"Value: {values}." if values else "", f"Read by: {by}." if by else ""]
    return code(name), default, f"{does}<br>*{' '.join(filter(None, facts))}*"


def _rows(kind: type[Variables]) -> Iterator[Variable]:
    """Yield the variables of a group; a secret has two."""
    for name, field in variables_of(kind).items():
        by, does = read_by(field) or "", field.description or ""
        yield Variable(name, _default(field), _values(field), does, by)
        if is_secret(field):
            yield Variable(f"{name}_FILE", "", "a file", "A file with it; wins over the variable above.", by)


def _values(field: FieldInfo) -> str:
    """Return the allowed values of a field, without the bound that all numbers have."""
    return allowed(field).replace(f" and up to {MOST:,}", "").replace(f"from 0 to {MOST:,}", "from 0")


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, int | float):
        return f"{value:.12g}"
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, tuple | frozenset):
        value = ",".join(str(item) for item in sorted(value))
    return f"`{value}`" if value else ""
