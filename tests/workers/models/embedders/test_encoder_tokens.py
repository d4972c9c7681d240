from pathlib import Path

import pytest
from tests.workers.sentence_folder import MAX_TOKENS, TOKENS
from tokenizers import Tokenizer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.embedders.encoder_tokens import Tokens


@pytest.mark.parametrize(
    "text",
    [
        "", "mill", "mill " * 30, "mill" * 24, "mill" * 26, f"mill {'x' * 99} mill", f"{'mill' * 160} {'x ' * 900}",
        f"{' ' * 700}mill", f"{' ' * 30_000}mill", f"{'x' * 30_000} mill", "a" * 639 + "́" * 3 + " mill" * 90,
        f"{'a ' * 20}{' ' * 570}{'x' * 150} mill",  # a cut through a word that is unknown as a whole
    ],
    ids=range(12),
)  # fmt: skip
def test_a_text_that_is_read_in_part_has_the_tokens_of_the_whole(sentence_folder: Path, text: str) -> None:
    whole = Tokenizer.from_file(str(sentence_folder / "tokenizer.json"))
    whole.no_padding()
    whole.enable_truncation(max_length=MAX_TOKENS)
    assert list(Tokens.load(sentence_folder, MAX_TOKENS).encode(text)) == whole.encode(text).ids


def test_of_a_long_text_only_the_beginning_is_read(sentence_folder: Path) -> None:
    read: list[int] = []

    class Listening:
        def __init__(self, real: Tokenizer) -> None:
            self._real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        def encode(self, text: str, add_special_tokens: bool) -> object:
            read.append(len(text))
            return self._real.encode(text, add_special_tokens=add_special_tokens)

    tokens = Tokens(Listening(Tokenizer.from_file(str(sentence_folder / "tokenizer.json"))), MAX_TOKENS)
    tokens.encode("a mill " * 15_000)
    assert read == [16 * MAX_TOKENS]


def test_half_a_surrogate_pair_is_a_question_mark(sentence_folder: Path) -> None:
    mark = TOKENS.index("?")
    assert list(Tokens.load(sentence_folder, MAX_TOKENS).encode("\ud800")) == [2, mark, 3]


@pytest.mark.parametrize("mark", ["[SEP]", "[CLS]", "[MASK]", "[PAD]"])
def test_no_text_brings_in_an_added_token(sentence_folder: Path, mark: str) -> None:
    tokenizer = Tokenizer.from_file(str(sentence_folder / "tokenizer.json"))
    tokens = Tokens.load(sentence_folder, MAX_TOKENS)
    ids = list(tokens.encode(f"a {mark} mill"))
    added = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.content != "[UNK]"}
    assert [index for index in ids if index in added] == [2, 3]
    assert tokens.count(f"a {mark} mill") == len(ids) - 2


def test_a_tokenizer_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json cannot be loaded.*pull or convert"):
        Tokens.load(tmp_path, MAX_TOKENS)


def test_a_whole_text_is_counted(sentence_folder: Path) -> None:
    tokens = Tokens.load(sentence_folder, MAX_TOKENS)
    assert tokens.count("") == 0
    assert tokens.count("mill") == 4  # its letters
    assert tokens.count("mill " * MAX_TOKENS) == 4 * MAX_TOKENS
    assert tokens.count("mill \ud800") == tokens.count("mill ?")
