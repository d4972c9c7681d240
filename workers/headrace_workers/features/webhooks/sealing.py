"""Secrets at rest: sealed with a key that the database does not know, where the deployment has one.

AES-256-GCM, bound to the endpoint that a secret is of: one that is copied to another row opens nothing. Several keys
may be named while they change: the first seals, all open.
"""

import base64
import binascii
import os
from collections.abc import Sequence
from typing import Final

from headrace_schemas.errors import ConfigurationError

_SEALED: Final = "sealed:"
_NONCE: Final = 12  # bytes
_KEY: Final = 32


class Sealer:
    """Seals and opens. Without keys a secret is kept as it is, and the database alone guards it."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = tuple(keys)

    @property
    def seals(self) -> bool:
        """Return True if secrets are stored encrypted."""
        return bool(self._keys)

    def seal(self, secret: str, about: str) -> str:
        """Return the stored form of a secret of this endpoint."""
        if not self._keys:
            return secret
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        sealed = nonce + AESGCM(self._keys[0]).encrypt(nonce, secret.encode(), about.encode())
        return _SEALED + base64.b64encode(sealed).decode()

    def open(self, kept: str, about: str) -> str:
        """The secret that was kept; ConfigurationError when no key opens it."""
        if not kept.startswith(_SEALED):
            return kept
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        sealed = base64.b64decode(kept.removeprefix(_SEALED))
        for key in self._keys:
            try:
                return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], about.encode()).decode()
            except InvalidTag:
                continue
        raise ConfigurationError(
            f"the secret of the endpoint {about} is sealed, and no key of HEADRACE_WEBHOOK_KEY opens it: name the key "
            "that it was sealed with, too, or rotate the secret"
        )


def keys_of(text: str | None) -> tuple[bytes, ...]:
    """The keys that HEADRACE_WEBHOOK_KEY names, separated by commas; ConfigurationError leaves them out."""
    keys = []
    for word in (text or "").replace(",", " ").split():
        try:
            key = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY:
            raise ConfigurationError(
                f"HEADRACE_WEBHOOK_KEY holds what is no key: each is {_KEY} bytes as base64 (`openssl rand -base64 32`)"
            )
        keys.append(key)
    return tuple(keys)
