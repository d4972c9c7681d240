"""UUIDv5 as text (RFC 9562, section 5.5). The standard library's `uuid5` takes twice as long, by way of an object that
holds the number and is then written out; a job and its events have eight such ids.
"""

import uuid
from hashlib import sha1


class Namespace:
    """Namespace in which a name becomes an id: the same name gives the same id, in any language."""

    def __init__(self, namespace: uuid.UUID) -> None:
        self._bytes = namespace.bytes

    def id_of(self, name: str) -> str:
        """Return the UUIDv5 of a name."""
        digest = bytearray(sha1(self._bytes + name.encode(), usedforsecurity=False).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x50  # the version
        digest[8] = digest[8] & 0x3F | 0x80  # the variant
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
