"""Vectors with CTranslate2: an encoder's output, averaged over the tokens of each text.

A batch holds texts of the same number of tokens, and so no padding. In int8 a text then has the same vector, to the
bit, in whatever company (with padding cosines fell to 0.9976), and batches are about half as fast again.

CTranslate2 is safe in threads and not across a fork: load after the fork, or in a spawned process.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import ctranslate2
import numpy as np

from headrace_workers.models.embedders.encoder_tokens import Tokens
from headrace_workers.models.embedders.unit import unit_length
from headrace_workers.models.registry import ModelCard, broken_model, read_card

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_ROWS: Final = 32


class CTranslate2Embedder:
    """A loaded encoder, on the CPU. Thread-safe: calls from several threads share the weights.

    `inter_threads` calls are computed side by side, each on one thread.
    """

    def __init__(self, card: ModelCard, encoder: Any, tokens: Tokens) -> None:
        self._card = card
        self._encoder = encoder
        self._tokens = tokens
        self._dimensions = int(self._mean([tokens.encode("")]).shape[1])

    @classmethod
    def load(cls, folder: Path, *, inter_threads: int = 1) -> Self:
        """Load the embedder in a folder with a `model.toml`; ConfigurationError when it cannot be loaded."""
        card = read_card(folder)
        tokens = Tokens.load(folder, card.context_length)
        try:
            encoder = ctranslate2.Encoder(
                str(folder),
                device="cpu",
                compute_type="default",  # as the weights are stored, or what this processor has instead
                inter_threads=inter_threads,
                intra_threads=1,  # OpenMP threads that contend for a core are many times slower than none
            )
            return cls(card, encoder, tokens)
        except (RuntimeError, ValueError, OSError) as error:  # the library's words for files that it refuses
            raise broken_model(f"{folder} cannot be loaded: {error}") from error

    @property
    def id(self) -> str:
        """Alias, number format and the first 12 digits of the SHA-256 of `model.bin`."""
        return f"{self._card.alias}/{self._card.number_format}/{self._card.sha256[:12]}"

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return self._dimensions

    @property
    def max_tokens(self) -> int:
        """The number of tokens that it reads of a text."""
        return self._tokens.max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return self._tokens.count(text)

    @property
    def added_tokens(self) -> int:
        """The number of tokens that its template puts around each text."""
        return self._tokens.added

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row of length 1 for each text, in their order."""
        rows = [self._tokens.encode(text) for text in texts]
        vectors = np.empty((len(rows), self._dimensions), dtype=np.float32)
        for batch in _batches([len(row) for row in rows]):
            vectors[batch] = self._mean([rows[index] for index in batch])
        return unit_length(vectors)

    def _mean(self, rows: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        output = self._encoder.forward_batch(rows)
        hidden: NDArray[np.float32] = np.asarray(output.last_hidden_state)
        mean: NDArray[np.float32] = hidden.mean(axis=1)  # no row has padding, which would have to be left out
        return mean


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indexes into `lengths`, so that each batch has one length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for _, same in groupby(order, key=lengths.__getitem__):
        while batch := list(islice(same, BATCH_ROWS)):
            yield batch
