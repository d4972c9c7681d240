"""Signatures and secrets of Standard Webhooks. Pure, but for chance.

The signed text is `id.timestamp.body`. `v1` is HMAC-SHA256 with a secret that both sides know; `v1a` is Ed25519, whose
public key is all that a receiver needs. While a secret rotates there is a signature by each of the two.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from headrace_schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Scheme = Literal["v1", "v1a"]

SYMMETRIC: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_PUBLIC: Final = "whpk_"
_SECRET_BYTES: Final = 32  # of 24 to 64
_SEED_BYTES: Final = 32


def new_secret(scheme: Scheme) -> str:
    """A secret that nobody knows yet."""
    if scheme == "v1a":
        return _PRIVATE + base64.b64encode(secrets.token_bytes(_SEED_BYTES)).decode()
    return SYMMETRIC + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def check_secret(secret: str) -> Scheme:
    """Return the scheme of a user's secret. Raise ConfigurationError, without quoting it, if it is malformed."""
    prefix = _PRIVATE if secret.startswith(_PRIVATE) else SYMMETRIC
    try:
        size = len(base64.b64decode(secret.removeprefix(prefix), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if prefix == _PRIVATE and size == _SEED_BYTES:
        return "v1a"
    if secret.startswith(SYMMETRIC) and 24 <= size <= 64:
        return "v1"
    raise ConfigurationError(
        f"this is no secret of Standard Webhooks: write {SYMMETRIC} and 24 to 64 bytes as base64, or {_PRIVATE} and "
        f"the {_SEED_BYTES} bytes of an Ed25519 key"
    )


def shown(secret: str) -> str:
    """Return what the endpoint is given: the secret itself, or the public key of an Ed25519 secret."""
    if not secret.startswith(_PRIVATE):
        return secret
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = _private_key(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _PUBLIC + base64.b64encode(public).decode()


def hint(secret: str) -> str:
    """Return the part of a secret that may be shown later: its beginning and end, by which people recognise it."""
    told = shown(secret)
    prefix, _, key = told.partition("_")
    return f"{prefix}_…{key[-4:]}"


def headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The three headers of one attempt. `timestamp` is in seconds since 1970; `keys`: the secret, and while it rotates
    the one before.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
    }


def _signature(key: str, signed: bytes) -> str:
    if key.startswith(_PRIVATE):
        return f"v1a,{base64.b64encode(_private_key(key).sign(signed)).decode()}"
    secret = base64.b64decode(key.removeprefix(SYMMETRIC))
    return f"v1,{base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()}"


def _private_key(key: str) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(key.removeprefix(_PRIVATE)))


# Secrets at rest: sealed with a key that the database does not know, where the deployment has one.
#
# AES-256-GCM, bound to the endpoint that a secret is of: one that is copied to another row opens nothing. Several keys
# may be named while they change: the first seals, all open.

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


def sealing_keys(text: str | None) -> tuple[bytes, ...]:
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
