"""Sessions of the console, and the one-time tokens that begin them: digests in the ledger, never the secrets."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Index, Row, String, Table, Text, delete, literal, select, update

from headrace_workers.core.sql.database import now_ms
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import METADATA

UP: Final = "up"  # the `run` of a session that ends with `headrace up`
SESSION_MS: Final = 12 * 3_600_000
TOKEN_MS: Final = 3_600_000

CONSOLE_TOKENS: Final = Table(
    "console_tokens",
    METADATA,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the token, in hex
    Column("name", Text, nullable=False),  # of the person whom it signs in
    Column("key_id", String(16), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)

CONSOLE_SESSIONS: Final = Table(
    "console_sessions",
    METADATA,
    Column("digest", String(64), primary_key=True),  # SHA-256 of what the cookie holds, in hex
    Column("name", Text, nullable=False),  # by which the person signed in
    Column("key_id", String(16), nullable=False),  # whose tenant and scopes the session has
    Column("run", String(64), nullable=False),  # "", or the run of the processes with which the session ends
    Column("expires_at", BigInteger, nullable=False),
    Index("console_sessions_expired", "expires_at"),
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A random text for one browser, and the digest under which it is kept."""

    text: str

    @classmethod
    def new(cls) -> "Secret":
        """Return a secret that nobody has."""
        return cls(secrets.token_urlsafe(32))

    @property
    def digest(self) -> str:
        """Return its SHA-256 in hex. 256 random bits need no slow hash."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def offer(connection: Connection, digest: str, name: str, key_id: str) -> None:
    """Keep a token that signs this person in once, with the rights of this key."""
    _forget_expired(connection)
    expires = now_ms() + literal(TOKEN_MS, BigInteger)
    connection.execute(CONSOLE_TOKENS.insert().values(digest=digest, name=name, key_id=key_id, expires_at=expires))


def is_offered(connection: Connection, token: str) -> bool:
    """Return True if the token of this digest was offered, and is kept."""
    query = select(CONSOLE_TOKENS.c.digest).where(CONSOLE_TOKENS.c.digest == token)
    return connection.execute(query).first() is not None


def redeem(connection: Connection, token: str, digest: str) -> bool:
    """Begin a session by the token of this digest; return False where it was used, has expired, or is nobody's."""
    valid = CONSOLE_TOKENS.c.used_at.is_(None) & (CONSOLE_TOKENS.c.expires_at > now_ms())
    used = update(CONSOLE_TOKENS).where(CONSOLE_TOKENS.c.digest == token, valid).values(used_at=now_ms())
    if not connection.execute(used).rowcount:
        return False
    row = connection.execute(select(CONSOLE_TOKENS).where(CONSOLE_TOKENS.c.digest == token)).one()
    begin(connection, digest, row.name, row.key_id, UP)
    return True


def begin(connection: Connection, digest: str, name: str, key_id: str, run: str) -> None:
    """Keep a new session."""
    _forget_expired(connection)
    expires = now_ms() + literal(SESSION_MS, BigInteger)
    session = {"digest": digest, "name": name, "key_id": key_id, "run": run, "expires_at": expires}
    connection.execute(CONSOLE_SESSIONS.insert().values(session))


def find(connection: Connection, digest: str) -> Row[Any] | None:
    """Return the session of this digest; None where it has ended or never was."""
    valid = (CONSOLE_SESSIONS.c.digest == digest) & (CONSOLE_SESSIONS.c.expires_at > now_ms())
    return connection.execute(select(CONSOLE_SESSIONS).where(valid)).first()


def end(connection: Connection, digest: str) -> None:
    """End a session."""
    connection.execute(delete(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.digest == digest))


def end_of_up(connection: Connection) -> None:
    """End all sessions that a token of `headrace up` began, and forget its tokens."""
    connection.execute(delete(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.run == UP))
    connection.execute(delete(CONSOLE_TOKENS))


def _forget_expired(connection: Connection) -> None:
    connection.execute(delete(CONSOLE_SESSIONS).where(CONSOLE_SESSIONS.c.expires_at <= now_ms()))
    connection.execute(delete(CONSOLE_TOKENS).where(CONSOLE_TOKENS.c.expires_at <= now_ms()))


class ConsoleSessions(LedgerStore):
    """The sessions of one ledger; each method is one transaction. Thread-safe. Unavailable when it does not answer."""

    offer = durable(offer)
    redeem = durable(redeem)
    begin = durable(begin)
    find = reads(find)
    is_offered = reads(is_offered)
    end = durable(end)
    end_of_up = durable(end_of_up)
