"""Two outputs side by side: a model says which is better, by the logits of its first answer token, in both orders."""

from typing import Final

from headrace_schemas import Message, Pairwise
from headrace_workers.features.generation.verifiers.scale import INSTRUCTIONS, Scale, as_data
from headrace_workers.features.judging.rubric import Prompt, room_of

PAIR: Final = Scale({"A": 1.0, "B": 0.0}, "Answer with one letter: A or B.")  # the value is P(the first is better)
FLIPPED: Final = "the judge preferred another output when their order was turned round: that is no verdict"


def question_of(criterion: Pairwise) -> str:
    """Return the question, with the criterion to decide it by."""
    return criterion.question if criterion.guidance is None else f"{criterion.question}\n{criterion.guidance}"


def preferred(ahead: float, behind: float) -> float | None:
    """Return 1.0 where the first output is better in both orders, 0.0 where the second is, 0.5 where neither is in
    either.

    `ahead` is P(first place is better) with the first output in it, `behind` with the second one. None where the
    verdict changes with the order: many judges like what comes first (Zheng et al. 2023, arXiv 2306.05685), and what
    they say then says nothing about the outputs.
    """
    if ahead == behind == 0.5:
        return 0.5
    if ahead > 0.5 > behind:
        return 1.0
    return 0.0 if ahead < 0.5 < behind else None


def both_orders(question: str, about: str, first: str, second: str, *, context_length: int) -> tuple[Prompt, Prompt]:
    """Return the same question twice: with the first output first, and last."""
    return (
        build_pair(question, about, first, second, context_length=context_length),
        build_pair(question, about, second, first, context_length=context_length),
    )


def build_pair(question: str, about: str, first: str, second: str, *, context_length: int) -> Prompt:
    """Return the prompt that asks which of two outputs answers `about` better. Texts are data, as in rubrics."""
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
