"""Signatures and secrets of Standard Webhooks. Pure, but for chance.

What is signed is `id.timestamp.body`. `v1` is HMAC-SHA256 with a secret that both sides know; `v1a` is Ed25519, whose
public key is all that a receiver needs. While a secret rotates there is a signature by each of the two.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
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
