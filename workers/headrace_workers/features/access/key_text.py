"""The text of an API key: `hr_<id>_<secret><checksum>`. Pure, but for the randomness.

192 random bits need no slow hash: SHA-256 of the whole is kept. The checksum tells what is no key at all, so that
guesses and slips of the pen cost no look into the ledger, and scanners for leaked secrets find keys for certain.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

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
    found = _KEY.fullmatch(text)
    if found is None or found[3] != _checksum(found[1], found[2]):
        return None
    return _token(found[1], text)


def _token(key_id: str, text: str) -> Token:
    return Token(key_id, hashlib.sha256(text.encode()).hexdigest(), text)


def _checksum(key_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{key_id}_{secret}'.encode()):08x}"
