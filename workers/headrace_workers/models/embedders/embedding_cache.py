"""An embedder with a cache: a text that several jobs of one tenant contain is embedded once.

A tenant's texts make nothing faster for another tenant, who could otherwise tell what they were.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.models.embedders.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST = 4_096  # vectors: some 6 MB


class RememberingEmbedder:
    """Another embedder, with the vectors of the last texts that it was given, by whose they are. Thread-safe."""

    def __init__(self, embedder: Embedder, most: int = _MOST) -> None:
        self._embedder = embedder
        self._most = most
        self._known: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()  # by SHA-256: texts may be long
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """Of the embedder itself."""
        return self._embedder.id

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        """The number of tokens that it reads of a text."""
        return self._embedder.max_tokens

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row for each text, without a tenant: nothing is remembered."""
        return self.embed_for([""] * len(texts), texts)

    def embed_for(self, tenants: Sequence[str], texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row for each text, the i-th tenant's. Texts that are not remembered are embedded in one call."""
        keys = [_key(tenant, text) for tenant, text in zip(tenants, texts, strict=True)]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        rows = self._embedder.embed(list(missing.values()))
        if not found and len(missing) == len(texts):
            self._remember(dict(zip(missing, rows, strict=True)))
            return rows
        found.update(zip(missing, rows, strict=True))
        self._remember(found)
        import numpy as np

        return np.stack([found[key] for key in keys])

    def _remember(self, found: "dict[bytes, NDArray[np.float32]]") -> None:
        with self._lock:
            for key, row in found.items():
                self._known[key] = row
                self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)


def embed_for(embedder: Embedder, tenants: Sequence[str], texts: Sequence[str]) -> "NDArray[np.float32]":
    """Return a row for each text, the i-th tenant's: remembered where the embedder remembers."""
    if isinstance(embedder, RememberingEmbedder):
        return embedder.embed_for(tenants, texts)
    return embedder.embed(texts)


def _key(tenant: str, text: str) -> bytes:
    """Return the key of a tenant's text: a tenant's name has no NUL."""
    return hashlib.sha256(f"{tenant}\0{text}".encode("utf-8", "surrogatepass")).digest()
