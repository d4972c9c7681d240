"""Vectors that are computed once and kept on the disk: whole documentations take minutes of all cores."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ends import Say
from headrace_workers.models.embedders.embedder import Embedder

FOLDER = Path(".headrace") / "bench"  # git leaves it out, `make clean` removes it
_AT_ONCE = 256  # texts in a file: what an interruption costs, in the worst case


class KeptVectors:
    """An embedder whose vectors are kept in a folder, by the text's hash. What is interrupted goes on where it was."""

    def __init__(self, embedder: Embedder, folder: Path, say: Say = lambda _: None) -> None:
        self.id = embedder.id
        self.dimensions = embedder.dimensions
        self.max_tokens = embedder.max_tokens
        self._embedder = embedder
        self._folder = folder / embedder.id.replace("/", "-").replace(":", "-")
        self._say = say
        self._known: dict[str, NDArray[np.float32]] = {}
        for path in sorted(self._folder.glob("*.npz")):
            with np.load(path) as block:
                self._known.update(zip(block["keys"].tolist(), block["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A row for each, of length 1."""
        keys = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        # Texts of like length together: short ones are padded to the longest.
        missing = sorted(new, key=lambda key: len(new[key]))
        for start in range(0, len(missing), _AT_ONCE):
            self._keep(missing[start : start + _AT_ONCE], new)
            self._say(f"{min(start + _AT_ONCE, len(missing)):,} of {len(missing):,} texts are embedded")
        return np.stack([self._known[key] for key in keys]) if keys else self._embedder.embed([])

    def _keep(self, keys: Sequence[str], texts: dict[str, str]) -> None:
        vectors = self._embedder.embed([texts[key] for key in keys])
        self._known.update(zip(keys, vectors, strict=True))
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / "draft"
        with draft.open("wb") as file:
            np.savez(file, keys=np.array(keys), vectors=vectors)
        draft.replace(self._folder / f"{keys[0]}.npz")
