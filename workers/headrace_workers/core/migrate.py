"""Bringing a ledger's tables to the version that this code needs (Alembic).

Every command asks for the version of the tables, and few migrate: Alembic is imported by those alone.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine, inspect, text

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import installed
from headrace_workers.core.sql.database import locks_rows, reading, unhurried, writing
from headrace_workers.core.sql.database_errors import NotAdmitted

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Table

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_MAKES: Final = re.compile(r'op\.create_table\(\s*"(\w+)"')
_FOLLOWS: Final = re.compile(r'^down_revision = "(\w+)"', re.MULTILINE)
_LOCK = 0x6865616472616365 % 2**63  # "headrace": two migrations at once take turns


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


@cache
def _scripts() -> dict[str, str]:
    """Return the text of each migration, by its revision: files are named by it."""
    files = (_MIGRATIONS / "versions").glob("[0-9]*_*.py")
    return {file.name.partition("_")[0]: file.read_text(encoding="utf-8") for file in files}


@cache
def newest() -> str:
    """Return the revision that this code needs: the one that no other follows."""
    scripts = _scripts()
    followed = {before for script in scripts.values() for before in _FOLLOWS.findall(script)}
    (last,) = scripts.keys() - followed
    return last


def current(engine: Engine) -> str | None:
    """Return the revision that the database has; None for an empty one."""
    with reading(engine) as tx:
        return current_in(tx)


def current_in(tx: Connection) -> str | None:
    """Return the revision that the database of a transaction has; None for an empty one."""
    if not inspect(tx).has_table("alembic_version"):
        return None
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: Engine, to: str = "head") -> str:
    """Bring the tables up to date (or `to` a revision), whichever process comes first; the newest revision.

    ConfigurationError when the server does not let us in, or the ledger was made before the first release.
    """
    from alembic import command

    config = _config()
    with _at_start(), writing(engine) as tx, unhurried(tx):
        if locks_rows(tx):
            tx.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        _check_known(current_in(tx))
        config.attributes["connection"] = tx
        command.upgrade(config, to)
        if to == "head":
            _check_whole(tx)
            for table in _missing(tx):
                table.create(tx)
    return newest()


def require_current(engine: Engine) -> None:
    """Raise ConfigurationError unless the server admits us and the ledger has the tables that this code needs."""
    with _at_start(), reading(engine) as tx:
        found, missing = current_in(tx), _missing(tx)
        if found != newest():
            raise ConfigurationError(
                f"the ledger's tables are at revision {found or 'none'} and this version needs {newest()}: "
                "run `headrace ledger migrate`"
            )
        _check_whole(tx)
    if missing:
        names = ", ".join(table.name for table in missing)
        raise ConfigurationError(f"the ledger lacks the tables {names}: run `headrace ledger migrate`")


def _missing(tx: Connection) -> "list[Table]":
    """Return the tables of features that no migration makes, and that are not there yet."""
    tables = [table for feature in installed() for table in feature.tables()]
    return [table for table in tables if not inspect(tx).has_table(table.name)]


def _check_whole(tx: Connection) -> None:
    """Raise ConfigurationError if a table is gone that a migration made."""
    made = {name for script in _scripts().values() for name in _MAKES.findall(script)}
    if gone := sorted(made.difference(inspect(tx).get_table_names())):
        raise ConfigurationError(
            f"the ledger is at revision {newest()} and has lost the tables {', '.join(gone)}: restore it from a backup "
            "(docs/how-to/back-up-and-restore.md). A new table would be empty, so headrace makes none"
        )


def _check_known(revision: str | None) -> None:
    """Raise ConfigurationError for the revision of a ledger that no migration starts from."""
    if revision is not None and revision not in _scripts():
        raise ConfigurationError(
            f"the ledger's tables are at revision {revision}, which this version cannot bring up to date: it was made "
            "before the first release, or by a newer version. Use that one, or name a new database in HEADRACE_LEDGER"
        )


@contextmanager
def _at_start() -> Iterator[None]:
    """Raise ConfigurationError if the server does not admit us: before a process has begun, a person can mend that."""
    try:
        yield
    except NotAdmitted as error:
        raise ConfigurationError(str(error)) from None
