"""Bringing a ledger's tables to the version that this code needs (Alembic)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from headrace_schemas.errors import ConfigurationError
from headrace_workers.ledger.database import NotAdmitted, locks_rows, reading, unhurried, writing

_LOCK = 0x6865616472616365 % 2**63  # "headrace": two migrations at once take turns


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def newest() -> str:
    """The revision that this code needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(engine: Engine) -> str | None:
    """The revision that the database has; None for an empty one."""
    with reading(engine) as tx:
        return MigrationContext.configure(tx).get_current_revision()


def migrate(engine: Engine, to: str = "head") -> str:
    """Bring the tables up to date (or `to` a revision), whichever process comes first; the newest revision.

    ConfigurationError when the server does not let us in.
    """
    config = _config()
    with _at_start(), writing(engine) as tx, unhurried(tx):
        if locks_rows(tx):
            tx.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config.attributes["connection"] = tx
        command.upgrade(config, to)
    return newest()


def require_current(engine: Engine) -> None:
    """ConfigurationError unless the server lets us in and the ledger's tables are those that this code needs."""
    with _at_start():
        found = current(engine)
    if found != newest():
        raise ConfigurationError(
            f"the ledger's tables are at revision {found or 'none'} and this version needs {newest()}: "
            "run `headrace ledger migrate`"
        )


@contextmanager
def _at_start() -> Iterator[None]:
    """Before a process has begun, nobody waits for a server to let it in: somebody is there to be told."""
    try:
        yield
    except NotAdmitted as error:
        raise ConfigurationError(str(error)) from None
