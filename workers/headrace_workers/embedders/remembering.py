"""An embedder that remembers: a text that several ask about, one after the other, is embedded once."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.ports import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST = 4_096  # vectors: some 6 MB


class RememberingEmbedder:
    """Another embedder, with the vectors of the last texts that it was given. Thread-safe."""

    def __init__(self, embedder: Embedder, most: int = _MOST) -> None:
        self._embedder = embedder
        self._most = most
        self._known: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()  # by the text's SHA-256: texts may be long
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
        """What it reads of a text."""
        return self._embedder.max_tokens

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """A row for each text; those that are not remembered are embedded in one call."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
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
