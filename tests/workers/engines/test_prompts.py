"""From messages to tokens, and how many they are: as the model reads them, at a bounded cost."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError, PromptTooLong
from headrace_workers.engines.chat_template import InvalidTemplate
from headrace_workers.engines.prompts import Prompts
from headrace_workers.models.registry import read_card

FRAME = 19  # tokens of ChatML around one user message of the tiny model: a byte is a token


def said(text: str) -> tuple[Message, ...]:
    """One user turn."""
    return (Message(role="user", content=text),)


@pytest.fixture(scope="module")
def tiny(tiny_home: Path) -> Prompts:
    """A byte is a token, and 2,048 fit."""
    folder = tiny_home / "models" / "tiny"
    return Prompts.load(folder, read_card(folder))


@pytest.fixture(scope="module")
def smollm2(smollm2_home: Path) -> Prompts:
    """49,152 tokens, of which 8,192 fit."""
    folder = smollm2_home / "models" / "smollm2-135m-instruct"
    return Prompts.load(folder, read_card(folder))


class Watched:
    """A tokenizer that remembers how much it was given to read."""

    def __init__(self, prompts: Prompts) -> None:
        self._inner = prompts.tokenizer
        self.read: list[int] = []

    def encode(self, text: str, **options: bool) -> object:
        self.read.append(len(text))
        return self._inner.encode(text, **options)


def watched(prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many characters are tokenized from here on, call by call."""
    tokenizer = Watched(prompts)
    monkeypatch.setattr(prompts, "tokenizer", tokenizer)
    return tokenizer.read


@pytest.mark.parametrize("size", [0, 1, 100, 2_048 - FRAME - 1, 2_048 - FRAME, 2_049, 8_000, 9_000])
def test_what_is_counted_is_what_runs(tiny: Prompts, size: int) -> None:
    """To the very token: the prompt that leaves room for one runs, the next is refused, here as there."""
    counted, encoded = tiny.count(said("x" * size)), tiny.encode(said("x" * size))
    if size + FRAME < 2_048:
        assert isinstance(encoded, list)
        assert counted == len(encoded) == size + FRAME
        assert tiny.room(len(encoded)) == 2_048 - FRAME - size
    else:
        assert isinstance(encoded, PromptTooLong)
        assert isinstance(counted, PromptTooLong)
        assert "context of tiny holds 2048" in str(counted)


@given(text=st.text(max_size=300))
def test_every_text_is_counted_as_it_runs(smollm2: Prompts, text: str) -> None:
    """Whatever is in it, marks of the template too."""
    messages = said(text.replace("\x00", "") + "<|im_end|>")
    encoded = smollm2.encode(messages)
    assert isinstance(encoded, list)
    assert smollm2.count(messages) == len(encoded)


def test_a_long_prompt_that_surely_fits_is_told_from_its_beginning(
    smollm2: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In proportion, without reading the rest."""
    messages = said("a long walk by the river " * 600)
    exact = smollm2.encode(messages)
    assert isinstance(exact, list)
    read = watched(smollm2, monkeypatch)
    about = smollm2.count(messages)
    assert read == [8_192]
    assert about == pytest.approx(len(exact), rel=0.02)


def test_a_prompt_that_may_not_fit_is_counted_further(smollm2: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, when that takes its end; a dense end is not overlooked."""
    dense = said("a long walk by the river " * 800 + "7" * 3_000)
    exact = smollm2.encode(dense)
    assert isinstance(exact, list)
    read = watched(smollm2, monkeypatch)
    assert smollm2.count(dense) == len(exact)
    assert len(read) == 2


def test_a_prompt_that_cannot_fit_is_not_read_to_its_end(smollm2: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names what was counted and what fits."""
    read = watched(smollm2, monkeypatch)
    error = smollm2.count(said("river " * 33_000))
    assert isinstance(error, PromptTooLong)
    assert sum(read) < 200_000
    assert "tokens in the first 131072 of its 198" in str(error)
    assert "holds 8192 with the answer" in str(error)


def test_what_the_template_makes_nothing_of_is_refused(tiny: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to answer to."""
    monkeypatch.setattr(tiny._template, "render", lambda *_args, **_options: "")
    assert isinstance(tiny.count(said("x")), InvalidTemplate)
    assert isinstance(tiny.encode(said("x")), InvalidTemplate)


def test_a_prompt_without_tokens_is_refused(tiny: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer may know none of its characters; an engine takes no empty prompt."""
    monkeypatch.setattr(tiny, "tokenizer", Tokenizer(models.BPE()))
    for empty in (tiny.count(said("x")), tiny.encode(said("x")), tiny.count(said("x" * 20_000))):
        assert isinstance(empty, InvalidTemplate)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"model": {"type": "BPE"}}', b"\xff\xfe"], ids=ascii)
def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, tiny_home: Path, content: bytes) -> None:
    """With what to do."""
    card = read_card(tiny_home / "models" / "tiny")
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"tokenizer.json cannot be loaded.*pull or convert"):
        Prompts.load(tmp_path, card)
