"""Two outputs side by side: a model says which is better, by the logits of its first answer token."""

from typing import Final

from headrace_schemas import Message
from headrace_workers.judging.rubric import INSTRUCTIONS, Prompt, Scale, as_data, room_of

PAIR: Final = Scale({"A": 1.0, "B": 0.0}, "Answer with one letter: A or B.")  # the value is P(the first is better)


def build_pair(question: str, about: str, first: str, second: str, *, context_length: int) -> Prompt:
    """Which of two outputs answers `about` better, by this question. Texts are data, as they are for rubrics."""
    room = room_of(question, context_length)
    blocks, shortened = [], False
    for tag, text, allowed in (("input", about, room // 4), ("A", first, room * 3 // 8), ("B", second, room * 3 // 8)):
        data, cut = as_data(text, allowed)
        shortened |= cut
        blocks.append(f"<{tag}>\n{data}\n</{tag}>")
    ask = f"Question about the outputs A and B: {question}\n{PAIR.request}"
    return Prompt(
        (
            Message(role="system", content=INSTRUCTIONS + PAIR.request),
            Message(role="user", content="\n\n".join([*blocks, ask])),
        ),
        shortened,
    )
