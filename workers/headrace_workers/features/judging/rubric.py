"""Rubrics: a model answers a question about a text, and the logits of its first answer token are the score."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from types import MappingProxyType

from headrace_schemas import Message, Rubric
from headrace_schemas.criteria import Shown
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.features.generation.verifiers.scale import INSTRUCTIONS, YES_NO, Scale, as_data
from headrace_workers.features.judging.subject import Subject

_RESERVED_TOKENS = 256  # of the judge's context, for the instructions and the chat template
_CHARACTERS_PER_TOKEN = 2  # fewer than most tokenizers need; texts that are denser still are refused by the engine
_LEAST_ROOM = 500  # characters
_TAGS = 1_000  # characters of one message that are neither a text nor the question


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "yes_no": YES_NO,
        "1-5": Scale(
            {"1": 0.0, "2": 0.25, "3": 0.5, "4": 0.75, "5": 1.0},
            "Answer with one digit from 1 (not at all) to 5 (completely).",
        ),
    }
)


def scale_of(of: Rubric) -> Scale:
    """Return the answers that a rubric permits: its labels, or the points of its scale. Equal scales are the same
    object."""
    return _labels(of.labels, of.passing) if of.labels else SCALES[of.scale]


@lru_cache
def _labels(labels: tuple[str, ...], passing: tuple[str, ...]) -> Scale:
    values = {label: float(label in passing) for label in labels}
    return Scale(values, f"Answer with one of these, and nothing else: {', '.join(labels)}.")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt for the judge, and whether a text had to be shortened for it."""

    messages: tuple[Message, ...]
    shortened: bool


def build_prompt(of: Rubric, subject: Subject, scale: Scale, *, context_length: int) -> Prompt:
    """Return the question about the subject's output, with its input, context and reference where they are shown.

    The criterion's own messages stand before it, those of the system in the one that we begin with.

    Texts are data: each stands between tags, and its own angle brackets are escaped, so that neither a closing tag nor
    a special token of a chat template can be written in it. Together they get two characters for each token of the
    judge's context, half of it the output; of a longer text the middle is left out, and the place is marked.
    """
    parts: list[tuple[Shown, str | None]] = [
        ("context", subject.context), ("input", subject.question), ("reference", subject.reference),
    ]  # fmt: skip
    given = [(tag, text) for tag, text in parts if text and tag in of.show]
    question = of.question if of.guidance is None else f"{of.question}\n{of.guidance}"
    room = room_of(question, context_length, sum(len(each.content) for each in of.messages))
    share = room // 2 // len(given) if given else 0
    output_room = max(room // 2, room - sum(min(share, len(html.escape(text, quote=False))) for _, text in given))
    blocks, shortened = [], False
    for tag, text, allowed in [*((t, x, share) for t, x in given), ("output", subject.output or "", output_room)]:
        data, cut = as_data(text, allowed)
        shortened |= cut
        blocks.append(f"<{tag}>\n{data}\n</{tag}>")
    ask = f"Question about the output: {question}\n{scale.request}"
    own = [each.content for each in of.messages if each.role == "system"]
    instructions = "\n\n".join([INSTRUCTIONS, *own, scale.request]) if own else INSTRUCTIONS + scale.request
    turns = [each for each in of.messages if each.role != "system"]
    last_turn = Message(role="user", content="\n\n".join([*blocks, ask]))
    return Prompt((Message(role="system", content=instructions), *_in_turns([*turns, last_turn])), shortened)


def _in_turns(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages, with consecutive ones of one role joined: many templates take only turns."""
    for role, same in groupby(messages, key=lambda each: each.role):
        yield Message(role=role, content="\n\n".join(each.content for each in same))


def room_of(question: str, context_length: int, taken: int = 0) -> int:
    """Return how many characters of texts fit into a judge's context beside a question and `taken` characters."""
    whole = min((context_length - _RESERVED_TOKENS) * _CHARACTERS_PER_TOKEN, MAX_TEXT - _TAGS)
    return max(_LEAST_ROOM, whole - len(question) - taken)
