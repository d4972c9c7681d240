"""The added tokens of a tokenizer, such as `<|im_end|>`: templates write them, and a caller's text never does.

A tokenizer takes an added token's text for the token wherever it stands, so a text that holds `<|im_end|>` could end
its turn and open one of another role. Two things prevent that:

- `plain_tokenizer` gives the same ids for ordinary text and knows no added token by its text. Embedders read with it.
- In a prompt, a caller's texts are hidden from that look while the template is rendered (`AddedTokens.said`). Each
  added token that is found then is the template's own, and gets a name that no text can hold (`AddedTokens.named`).

Blank tokens, such as runs of spaces and lines, stay: they are how their model reads ordinary text, and open no turn.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, models

from headrace_schemas.errors import ConfigurationError

# Characters that are assigned to nothing, and of them four that nobody can foresee: 64 bits.
_NONCE: Final = "".join(chr(0xF1000 + secrets.randbelow(0xEF00)) for _ in range(4))
_EDGE, _BEGIN, _END, _NAME = (_NONCE + chr(0x100000 + index) for index in range(4))
_BYTES: Final = 0xF0000  # a byte of what is hidden is the character of this number and the byte
_NAMES: Final = 0x100100
_HIDDEN: Final = re.compile(f"{_EDGE}|{_BEGIN}([{chr(_BYTES)}-{chr(_BYTES + 255)}]*){_END}")
_BLANKS: Final = " \t\r\n▁"  # the last is SentencePiece's space
_HEAD: Final = 2  # characters of an added token that are looked for first


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that gives the same ids, and gives no added token for any text that a caller can write.

    Each added token has another name there, `name_of` its place. A post-processor adds tokens as before.
    Raises ConfigurationError when the copy would number them otherwise.
    """
    content = json.loads(tokenizer.to_str())
    names = _names(tokenizer)
    for entry in content["added_tokens"]:
        if entry["content"] in names:
            entry |= {"content": names[entry["content"]], "normalized": False, "lstrip": False, "rstrip": False,
                      "single_word": False}  # fmt: skip
    _rename(content["model"], names)
    copy = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    for text, name in names.items():
        if copy.token_to_id(name) != tokenizer.token_to_id(text):
            raise ConfigurationError(
                f"the added token {text!r} has no one number in tokenizer.json: pull or convert the model again"
            )
    return copy


def read_plainly(model: Any) -> None:
    """Make a model of sentence-transformers read texts as `plain_tokenizer` does."""
    tokenizer = model.tokenizer
    if isinstance(tokenizer, Tokenizer):  # that of static embeddings
        model.tokenizer = plain_tokenizer(tokenizer)
    elif (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        tokenizer.split_special_tokens = True  # one that is written in Python tells them apart by itself
    else:
        names = _names(backend)
        by_role = dict(tokenizer.special_tokens_map)
        tokenizer._tokenizer = plain_tokenizer(backend)
        for role, text in by_role.items():  # it asks for their ids by name, to pad with
            if isinstance(text, str) and text in names:
                setattr(tokenizer, role, names[text])


def name_of(index: int) -> str:
    """Return what the added token at this place of the tokenizer's list is called in `plain_tokenizer`."""
    return _NAME + chr(_NAMES + index)


class CallerText(str):
    """A caller's text in the hands of a template. Its value has no added token, and is not what its methods look at.

    So a template that looks for `</think>` finds it, whereas all that it writes of the text stays hidden.
    """

    _hide: Callable[[str], str]

    def __hash__(self) -> int:
        return hash(_revealed(self))


def _looks(name: str) -> Callable[..., Any]:
    method = getattr(str, name)

    def look(self: CallerText, *arguments: Any, **options: Any) -> Any:
        return _as_caller_text(method(_revealed(self), *map(_plain, arguments), **options), self._hide)

    return look


for _name in (
    "__contains__", "__eq__", "__ge__", "__getitem__", "__gt__", "__le__", "__len__", "__lt__", "__ne__", "capitalize",
    "casefold", "count", "endswith", "find", "index", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
    "title", "upper",
):  # fmt: skip
    setattr(CallerText, _name, _looks(_name))


def as_one_text(value: Any, write: Callable[[Any], str]) -> str:
    """Return what `write` makes of a value. If a caller's texts are in it, all of it is a caller's text.

    So what writing makes of them, such as JSON's escapes, is looked at for added tokens, too.
    """
    texts: list[CallerText] = []
    written = write(_without_marks(value, texts))
    return _as_caller_text(written, texts[0]._hide) if texts else written


def _without_marks(value: Any, found: list[CallerText]) -> Any:
    """Return a value with its callers' texts as they are, which are put into `found`."""
    if isinstance(value, CallerText):
        found.append(value)
        return _revealed(value)
    if isinstance(value, dict):
        return {_without_marks(name, found): _without_marks(item, found) for name, item in value.items()}
    return [_without_marks(item, found) for item in value] if isinstance(value, (list, tuple)) else value


class AddedTokens:
    """The added tokens of one tokenizer that are not blank. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = added = _added(tokenizer)
        texts = [token.content for token in added]
        self._heads = sorted({text[:_HEAD] for text in texts})
        self._longest = max(map(len, texts), default=0)
        self._tails = {text[:length] for text in texts for length in range(1, len(text))}
        self._ends = {text[length:] for text in texts for length in range(1, len(text))}
        # The text alone does not show what a normalized form of it contains.
        self._in_other_forms = tokenizer.normalizer is not None and any(token.normalized for token in added)

    @cached_property
    def plain(self) -> Tokenizer:
        """The tokenizer that knows them by their names alone: made when a text is in doubt, and kept."""
        return plain_tokenizer(self._tokenizer)

    def may_come_from(self, texts: Iterable[str]) -> bool:
        """Return True if one of the texts holds an added token, or could complete one with what stands beside it."""
        return any(self._in_other_forms or self._holds(text) or self._straddles(text.strip()) for text in texts)

    def ids(self, text: str) -> list[int]:
        """Return the ids of a caller's text that stands alone."""
        tokenizer = self.plain if self._in_other_forms or self._holds(text) else self._tokenizer
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def said(self, text: str) -> str:
        """Return a caller's text as a template may be given it: see `CallerText`."""
        return _as_caller_text(text, self._hide)  # type: ignore[no-any-return]

    def named(self, rendered: str) -> str:
        """Return what a template made of `said` texts, its own added tokens by their names and the texts revealed."""
        parts: list[str] = []
        done = 0
        for start, end, index in self._find(rendered):
            if _NONCE in rendered[start:end]:  # an edge was lost on it: a text has a part in it
                continue
            parts += _revealed(rendered[done:start]), name_of(index)
            done = end
        return "".join([*parts, _revealed(rendered[done:])])

    @cached_property
    def _detector(self) -> Tokenizer:
        """The tokenizer's own look for added tokens, normalization included, and nothing after it."""
        detector = Tokenizer(models.WordLevel({_NONCE: 0}, unk_token=_NONCE))
        if self._tokenizer.normalizer is not None:
            detector.normalizer = self._tokenizer.normalizer
        detector.add_tokens(self._added)
        return detector

    def _find(self, text: str) -> list[tuple[int, int, int]]:
        """Return start, end and place in the list of each added token in the text."""
        encoding = self._detector.encode(text, add_special_tokens=False)
        return [
            (start, end, number - 1)
            for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if number
        ]

    def _holds(self, text: str) -> bool:
        return any(head in text for head in self._heads) and bool(self._find(text))

    def _straddles(self, text: str) -> bool:
        return any(text[-length:] in self._tails or text[:length] in self._ends for length in range(1, self._longest))

    def _hide(self, text: str) -> str:
        """Return the text with its added tokens written in other characters, and an edge that nothing is completed
        across.
        """
        body = text.strip()
        if not body:
            return text
        parts: list[str] = []
        done = 0
        for begin, end, _ in self._find(body):
            found = body[begin:end].strip()  # a token may take the spaces beside it, which a template may cut
            start = body.index(found, begin)
            parts += body[done:start], _BEGIN, *(chr(_BYTES + byte) for byte in found.encode()), _END
            done = start + len(found)
        before, after = text[: text.index(body)], text[text.index(body) + len(body) :]
        return "".join([before, _EDGE, *parts, body[done:], _EDGE, after])


def cut(text: str, length: int) -> str:
    """Return the first `length` characters of a text with named tokens, less a name that would be cut in two."""
    last = text.find(_NAME, max(0, length - len(_NAME)), length + len(_NAME))
    return text[: length if last < 0 else min(last, length)]


def _added(tokenizer: Tokenizer) -> list[AddedToken]:
    """Return all but the blank ones, in order of their ids."""
    all_of_them = tokenizer.get_added_tokens_decoder()
    return [token for _, token in sorted(all_of_them.items()) if token.content.strip(_BLANKS)]


def _names(tokenizer: Tokenizer) -> dict[str, str]:
    return {token.content: name_of(index) for index, token in enumerate(_added(tokenizer))}


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename a model's entries. Some models find each of them in a text, however it was added."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): number for text, number in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    if (unknown := model.get("unk_token")) is not None:
        model["unk_token"] = names.get(unknown, unknown)
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _names_one(merge, names)]


def _names_one(merge: str | list[str], names: Mapping[str, str]) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left in names or right in names or left + right in names


def _as_caller_text(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        hidden = CallerText(hide(value))
        hidden._hide = hide
        return hidden
    if isinstance(value, (list, tuple)):
        return type(value)(_as_caller_text(item, hide) for item in value)
    return value


def _plain(value: Any) -> Any:
    return _revealed(value) if isinstance(value, CallerText) else value


def _revealed(text: str) -> str:
    # By the value itself: a Said looks at what it reveals.
    return _HIDDEN.sub(_reveal, str.__str__(text)) if str.__contains__(text, _NONCE) else str.__str__(text)


def _reveal(found: re.Match[str]) -> str:
    return bytes(ord(item) - _BYTES for item in found[1]).decode() if found[1] else ""
