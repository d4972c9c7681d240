"""The API key of an embedded stack: made when its ledger is new, and kept in a file for whoever owns the home."""

from pathlib import Path
from typing import Final

from headrace_producers.settings import ProducerSettings
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.access.commands.keys import new_key
from headrace_workers.features.access.key_text import Token, read_token
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.http.scopes import Scope
from headrace_workers.runtime.embedded.lock import write_atomically

KEY_FILE: Final = "api-key"


def first_key(home: Path, ledger_url: str) -> Token:
    """The key in the home's file where the ledger lets it in; else a new one, which may do all, for HEADRACE_TENANT."""
    file, ledger = home / KEY_FILE, Ledger.at(ledger_url)
    try:
        kept = _kept(file)
        row = ledger.of(ApiKeys).find([kept.id]).get(kept.id) if kept else None
        if kept and row and row.valid and row.digest == kept.digest:
            return kept
        token, key = new_key(ProducerSettings.from_env().tenant, "made by headrace up", tuple(sorted(Scope)))
        ledger.of(ApiKeys).add(key)
        write_atomically(file, f"{token.text}\n")
        return token
    finally:
        ledger.close()


def _kept(file: Path) -> Token | None:
    try:
        return read_token(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
