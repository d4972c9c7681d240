"""The interface of embedders."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from headrace_schemas.errors import InputTooLong

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """Model that turns texts into vectors whose inner product is their similarity. Thread-safe; built after any
    fork.
    """

    @property
    def id(self) -> str:
        """Return name, number format and the first 12 digits of its weights' SHA-256:
        `all-minilm-l6-v2/int8/ab12cd34ef56`.

        Vectors of two ids must never meet.
        """

    @property
    def dimensions(self) -> int:
        """Return the length of each vector."""

    @property
    def max_tokens(self) -> int:
        """Return how many tokens of a text it reads, with the tokens that it adds; the rest of the text changes
        nothing."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row of length 1 for each text, in their order: shape (texts, dimensions), also for no texts.

        An empty text has a vector, too; a long one is cut at `max_tokens`.
        """


@runtime_checkable
class CountsTokens(Protocol):
    """An embedder that knows how many tokens a text has for it; some do not."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of the whole text, without the tokens that it adds."""

    @property
    def added_tokens(self) -> int:
        """Return how many it adds to each text."""


class CountingEmbedder(Embedder, CountsTokens, Protocol):
    """An embedder that knows whether it reads a text whole."""


def check_whole(alias: str, tokens: int, most: int) -> None:
    """Raise InputTooLong where a text of so many tokens would be cut."""
    if tokens > most:
        raise InputTooLong(
            f"the input has {tokens} tokens, and {alias} reads {most} at most: send it in parts, a job each"
        )
