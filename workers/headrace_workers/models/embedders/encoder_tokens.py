"""From a text to the ids that an encoder reads: cut at its length, with the tokens that it wants around them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from tokenizers import Tokenizer

from headrace_workers.models.added_tokens import plain_tokenizer
from headrace_workers.models.registry import broken_model

_READ_FIRST: Final = 16  # characters a token: more than texts have
# A word that is cut may become other tokens than whole, at most so many: WordPiece takes longer words for unknown.
_CUT_DOUBT: Final = 100


class Tokens:
    """One model's tokenizer. Thread-safe. A loaded one reads `[SEP]` in a text as text: only the encoder adds such."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.added = int(tokenizer.num_special_tokens_to_add(False))  # that the encoder wants around each text
        self.max_tokens = max_tokens
        self._room = max_tokens - self.added

    @classmethod
    def load(cls, folder: Path, max_tokens: int) -> Self:
        """Read `tokenizer.json`; ConfigurationError when it cannot be used."""
        path = folder / "tokenizer.json"
        try:
            return cls(plain_tokenizer(Tokenizer.from_file(str(path))), max_tokens)
        except Exception as error:  # the library raises bare Exception for files that it refuses
            raise broken_model(f"{path} cannot be loaded: {error}") from error

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, without the tokens that the encoder wants around it."""
        return len(self._tokenizer.encode(_clean(text), add_special_tokens=False))

    def encode(self, text: str) -> Sequence[int]:
        """Return the ids, `max_tokens` at most. Of a long text no more is read than they need."""
        clean = _clean(text)
        read = _READ_FIRST * self.max_tokens
        body = self._tokenizer.encode(clean[:read], add_special_tokens=False)
        while read < len(clean) and len(body) < self._room + _CUT_DOUBT:
            read *= 4
            body = self._tokenizer.encode(clean[:read], add_special_tokens=False)
        body.truncate(self._room)
        ids: list[int] = self._tokenizer.post_process(body).ids
        return ids


def _clean(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
