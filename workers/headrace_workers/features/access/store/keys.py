"""API keys: their text, and their rows: tenant, scopes and a digest, never the key itself."""

import hashlib
import re
import secrets
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Connection, delete, literal, select, update

from headrace_workers.core.fields import copied
from headrace_workers.core.sql.database import among, now_ms, reading, writing
from headrace_workers.core.sql.store import LedgerStore
from headrace_workers.core.tables import NEVER
from headrace_workers.features.access.tables import API_KEYS

# The text of an API key: `hr_<id>_<secret><checksum>`. Pure, but for the randomness.
#
# 192 random bits need no slow hash: SHA-256 of the whole is kept. The checksum tells what is no key at all, so that
# guesses and slips of the pen cost no look into the ledger, and scanners for leaked secrets find keys for certain.

_KEY = re.compile(r"hr_([0-9a-f]{12})_([0-9a-f]{48})([0-9a-f]{8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A key as its holder has it: the id, under which it is kept, and the SHA-256 of the whole in hex."""

    id: str
    digest: str
    text: str = field(repr=False)


def new_token() -> Token:
    """A key that nobody has."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
    return _token(key_id, f"hr_{key_id}_{secret}{_checksum(key_id, secret)}")


def read_token(text: str) -> Token | None:
    """Return the key in a text, or None if the text is not a key."""
    match = _KEY.fullmatch(text)
    if match is None or match[3] != _checksum(match[1], match[2]):
        return None
    return _token(match[1], text)


def _token(key_id: str, text: str) -> Token:
    return Token(key_id, hashlib.sha256(text.encode()).hexdigest(), text)


def _checksum(key_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{key_id}_{secret}'.encode()):08x}"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be kept. `digest` is the SHA-256 of the whole key in hex; `lives_ms` absent: for ever."""

    id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    lives_ms: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key that is kept. Times are ms since 1970; `expires_at` is None for one that does not expire."""

    id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    made_at: int
    expires_at: int | None
    revoked_at: int | None
    valid: bool  # by the database's clock, when it was read


class ApiKeys(LedgerStore):
    """The keys of one ledger; each method is one transaction. Thread-safe. Unavailable when it does not answer."""

    def find(self, ids: Collection[str]) -> dict[str, KeyRow]:
        """Return the existing keys among these, by id."""
        with reading(self._engine) as tx:
            return {row.id: row for row in _rows(tx, among(tx, API_KEYS.c.id, list(ids)))}

    def listed(self, tenant: str | None = None, limit: int | None = None) -> list[KeyRow]:
        """So many keys at most, of all tenants or of one, the newest first."""
        with reading(self._engine) as tx:
            return _rows(tx, None if tenant is None else API_KEYS.c.tenant == tenant, limit)

    def add(self, key: NewKey) -> None:
        """Keep a new key."""
        with writing(self._engine) as tx:
            _add(tx, key)

    def rotate(self, key_id: str, new: NewKey, grace_ms: int) -> bool:
        """Keep a new key in the place of one that is valid, which stays so for `grace_ms` at most; False where it is
        not, and nothing was changed.
        """
        soon = now_ms() + literal(grace_ms, BigInteger)
        with writing(self._engine) as tx:
            valid = [row for row in _rows(tx, API_KEYS.c.id == key_id) if row.valid]
            if not valid:
                return False
            _add(tx, new)
            old = (API_KEYS.c.id == key_id) & (API_KEYS.c.expires_at > soon)
            tx.execute(update(API_KEYS).where(old).values(expires_at=soon))
        return True

    def take_back(self, key_id: str, before: KeyRow | None = None) -> None:
        """Forget a key that nobody was shown; the one `before`, in whose place it was, opens as long as it did."""
        with writing(self._engine) as tx:
            tx.execute(delete(API_KEYS).where(API_KEYS.c.id == key_id))
            if before is not None:
                expires = NEVER if before.expires_at is None else before.expires_at
                tx.execute(update(API_KEYS).where(API_KEYS.c.id == before.id).values(expires_at=expires))

    def revoke(self, key_id: str) -> bool:
        """Let nobody in with this key any more; whether it let anybody in before."""
        with writing(self._engine) as tx:
            valid = (API_KEYS.c.revoked_at.is_(None)) & (API_KEYS.c.expires_at > now_ms())
            done = tx.execute(update(API_KEYS).where(API_KEYS.c.id == key_id, valid).values(revoked_at=now_ms()))
            return bool(done.rowcount)


def _add(tx: Connection, key: NewKey) -> None:
    lives = NEVER if key.lives_ms is None else now_ms() + literal(key.lives_ms, BigInteger)
    tx.execute(
        API_KEYS.insert().values(
            id=key.id, tenant=key.tenant, name=key.name, scopes=" ".join(key.scopes), digest=key.digest,
            made_at=now_ms(), expires_at=lives,
        )
    )  # fmt: skip


def _rows(tx: Connection, where: Any, limit: int | None = None) -> list[KeyRow]:
    newest = API_KEYS.c.made_at.desc(), API_KEYS.c.id
    query = select(API_KEYS, now_ms().label("now")).order_by(*newest).limit(limit)
    result = tx.execute(query if where is None else query.where(where))
    return [
        copied(
            KeyRow,
            row,
            scopes=tuple(row.scopes.split()),
            expires_at=None if row.expires_at == NEVER else row.expires_at,
            valid=row.revoked_at is None and row.expires_at > row.now,
        )
        for row in result
    ]
