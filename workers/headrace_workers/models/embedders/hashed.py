"""An embedder without weights, for tests: texts with the same words are near, whatever the words mean."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from headrace_workers.core.private_files import private_folder
from headrace_workers.models.embedders.unit import unit_length
from headrace_workers.models.registry import ModelCard, model_dir, write_card

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSIONS: Final = 64  # a BLAKE2b digest has as many bytes
MAX_TOKENS: Final = 256
_WORD: Final = re.compile(r"\w+")
_RULE: Final = hashlib.sha256(b"lower-cased words, BLAKE2b of each, bytes less 127.5, summed").hexdigest()


class HashEmbedder:
    """The sum of a vector for each word, in any order; the same in every process. A word counts as a token.

    A word's vector is the BLAKE2b digest of its lower-cased letters. A text without words has one of its own.
    """

    def __init__(self, name: str = "hash") -> None:
        self._name = name

    @property
    def id(self) -> str:
        """Its name, and what stands for weights: the rule by which vectors are made."""
        return f"{self._name}/none/{_RULE[:12]}"

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return DIMENSIONS

    @property
    def max_tokens(self) -> int:
        """The number of words that it reads of a text."""
        return MAX_TOKENS

    def count_tokens(self, text: str) -> int:
        """Return the number of words of a text."""
        return len(_WORD.findall(text))

    @property
    def added_tokens(self) -> int:
        """None."""
        return 0

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row of length 1 for each text, in their order."""
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = sum(map(_of_word, _words(text)))
        return unit_length(vectors)


def make_hash_embedder(home: Path, alias: str = "hash") -> Path:
    """Write a model folder whose engine is the HashEmbedder; gives the folder back."""
    folder = model_dir(home, alias)
    private_folder(folder)
    card = ModelCard(
        alias=alias,
        engine="hash",
        source="headrace_workers.models.embedders.hashed",
        licence="Apache-2.0",
        sha256="",
        quantization="none",
        size_bytes=0,
        context_length=MAX_TOKENS,
        kind="embedder",
    )
    write_card(folder, card)
    return folder


def _words(text: str) -> list[str]:
    found = [match.group() for match, _ in zip(_WORD.finditer(text), range(MAX_TOKENS), strict=False)]
    return found or [""]


@lru_cache(maxsize=10_000)
def _of_word(word: str) -> "NDArray[np.float32]":
    digest = hashlib.blake2b(word.lower().encode("utf-8", "replace")).digest()
    return np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - np.float32(127.5)
