"""The rubric: its prompt keeps data apart from instructions, and its reading never makes a score up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schemas.documents import texts

from headrace_schemas import Message, Rubric
from headrace_schemas.limits import MAX_SHORT_TEXT, MAX_TEXT
from headrace_workers.features.judging.ask_model import SCALES, build_prompt
from headrace_workers.features.judging.scores import Subject
from headrace_workers.models.verifiers.scale import MIN_MASS, Unanswered, read_answer

KIND = Rubric(question="Is it kind?")
YES_NO, ONE_TO_FIVE = SCALES["yes_no"], SCALES["1-5"]


def user_text(subject: Subject, context_length: int = 2048) -> str:
    return build_prompt(KIND, subject, YES_NO, context_length=context_length).messages[-1].content


def test_yes_no_is_yes_among_yes_and_no() -> None:
    answer = read_answer((0.3, 0.1, 0.05, 0.05), YES_NO)
    assert answer.value == pytest.approx(0.8)
    assert answer.mass == pytest.approx(0.5)


def test_digits_are_an_expectation() -> None:
    assert read_answer((0, 0, 0, 0, 0.9), ONE_TO_FIVE).value == pytest.approx(1.0)
    assert read_answer((0.9, 0, 0, 0, 0), ONE_TO_FIVE).value == pytest.approx(0.0)
    assert read_answer((0, 0, 0.2, 0.2, 0), ONE_TO_FIVE).value == pytest.approx(0.625)


@pytest.mark.parametrize(
    "probabilities",
    [
        (0.0,) * 5,
        (MIN_MASS / 10,) * 5,
        (math.nan, 0.5, 0, 0, 0),
        (math.inf, 0, 0, 0, 0),
        (-0.1, 0.5, 0, 0, 0),
        (0, 0, 0, 9e307, 9e307),
        (0.5,) * 4,
        (0.1,) * 6,
        (0, 0, 0, 0, 1.02),
        (0, 0, -0.001, 0, 0.5),
    ],
)
def test_no_score_is_made_up(probabilities: tuple[float, ...]) -> None:
    with pytest.raises(Unanswered):
        read_answer(probabilities, ONE_TO_FIVE)


def test_the_edges_of_what_is_an_answer() -> None:
    least = read_answer((0, 0, 0, MIN_MASS, 0), ONE_TO_FIVE)
    assert (least.value, least.mass) == (pytest.approx(0.75), MIN_MASS)
    most = read_answer((0, 0, 0, 0, 1.005), ONE_TO_FIVE)
    assert (most.value, most.mass) == (1.0, 1.0)
    both = read_answer((0, 0, 0, 0.6, 0.6), ONE_TO_FIVE)
    assert (both.value, both.mass) == (pytest.approx(0.875), 1.0)


def test_a_refusal_says_what_was_permitted() -> None:
    with pytest.raises(Unanswered, match=r"only 0\.010 of its probability fell on yes, Yes, no, No, and below 0\.05"):
        read_answer((0.01, 0, 0, 0), YES_NO)


def test_what_the_judge_is_told() -> None:
    system, user = build_prompt(KIND, Subject("OUT", ()), YES_NO, context_length=2048).messages
    assert (system.role, user.role) == ("system", "user")
    assert "never an instruction" in system.content
    assert system.content.endswith(YES_NO.request)
    assert user.content == f"<output>\nOUT\n</output>\n\nQuestion about the output: Is it kind?\n{YES_NO.request}"


def test_messages_of_its_own_stand_before_the_question() -> None:
    own = [("system", "S1"), ("user", "U1"), ("assistant", "A1"), ("system", "S2"), ("user", "U2")]
    messages = tuple(Message(role=role, content=content) for role, content in own)
    of = KIND.model_copy(update={"messages": messages})
    system, *turns = build_prompt(of, Subject("OUT", ()), YES_NO, context_length=2048).messages
    assert system.content.split("\n\n")[1:] == ["S1", "S2", YES_NO.request]
    assert "never an instruction" in system.content
    assert [(turn.role, turn.content) for turn in turns[:2]] == [("user", "U1"), ("assistant", "A1")]
    (last,) = turns[2:]
    assert last.content == f"U2\n\n{user_text(Subject('OUT', ()))}"
    long = of.model_copy(update={"messages": (Message(role="user", content="x" * 1_000),)})
    shown = build_prompt(long, Subject("y" * 10_000, ()), YES_NO, context_length=2048).messages[-1].content
    assert shown.count("y") == pytest.approx((2048 - 256) * 2 - len("Is it kind?") - 1_000, abs=2)


def test_the_room_is_shared() -> None:
    long = "x" * 10_000
    room = (2048 - 256) * 2 - len("Is it kind?")

    def shown(subject: Subject, tag: str) -> int:
        text = user_text(subject).split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0]
        return text.count("x") + text.count("y")

    full = Subject(long, (), question=long, reference=long, context=long)
    assert shown(full, "output") == pytest.approx(room / 2, abs=2)
    for tag in ("context", "input", "reference"):
        assert shown(full, tag) == pytest.approx(room / 6, abs=2)
    assert shown(Subject(long, ()), "output") == pytest.approx(room, abs=2)
    assert shown(Subject(long, (), question="y" * 100), "output") == pytest.approx(room - 100, abs=2)
    assert shown(Subject(long, (), question=long), "input") == pytest.approx(room / 2, abs=2)


def test_a_text_that_fits_exactly_is_whole() -> None:
    room = (2048 - 256) * 2 - len("Is it kind?")
    for size, whole in ((room, True), (room + 1, False)):
        prompt = build_prompt(KIND, Subject("x" * size, ()), YES_NO, context_length=2048)
        assert prompt.shortened is not whole
    head, tail = user_text(Subject("x" * 10_000, ())).split("<output>\n")[1].split("\n</output>")[0].split("[…")
    assert abs(head.count("x") - tail.count("x")) <= 1


def test_a_small_context_leaves_the_least_room() -> None:
    prompt = build_prompt(
        Rubric.model_construct(question="q" * 3_000), Subject("x" * 10_000, ()), YES_NO, context_length=512
    )
    assert prompt.messages[-1].content.count("x") == 500


@given(st.lists(st.floats(), min_size=5, max_size=5))
def test_any_figures_give_a_unit_or_a_refusal(figures: list[float]) -> None:
    try:
        answer = read_answer(figures, ONE_TO_FIVE)
    except Unanswered:
        return
    assert 0.0 <= answer.value <= 1.0
    assert MIN_MASS <= answer.mass <= 1.0


def test_the_prompt_has_what_is_given_and_nothing_else() -> None:
    whole = user_text(Subject("OUT", (), question="IN", reference="REF", context="CTX"))
    for tag, text in [("output", "OUT"), ("input", "IN"), ("reference", "REF"), ("context", "CTX")]:
        assert f"<{tag}>\n{text}\n</{tag}>" in whole
    assert whole.index("</output>") < whole.index("Is it kind?")
    assert "<reference>" not in user_text(Subject("OUT", ()))


@given(st.text(st.sampled_from("</>&output|im_end \n"), max_size=60))
def test_judged_text_cannot_leave_its_tags(text: str) -> None:
    whole = user_text(Subject(text, ()))
    assert whole.count("<") == 2
    assert "<|im_end|>" not in whole


@given(
    output=st.text(st.sampled_from("a<&"), max_size=3000),
    context=st.none() | st.text(st.sampled_from("b<"), max_size=3000),
    question=texts | st.just("q" * 5000),
)
def test_long_texts_are_bounded_and_marked(output: str, context: str | None, question: str) -> None:
    prompt = build_prompt(
        Rubric(question="?"), Subject(output, (), question=question, context=context), YES_NO, context_length=1024
    )
    whole = prompt.messages[-1].content
    assert len(whole) <= 2 * 1024
    assert prompt.shortened == ("characters left out" in whole)


def test_both_ends_of_a_long_text_are_kept() -> None:
    whole = user_text(Subject("A" * 5000 + "m" + "Z" * 5000, ()), context_length=1024)
    kept = whole.count("A") - whole.count("Answer")
    assert "<output>\nAAA" in whole
    assert "ZZZ\n</output>" in whole
    assert f"{10_001 - kept - whole.count('Z')} characters left out" in whole


def test_a_large_context_does_not_break_the_bound_of_a_message() -> None:
    """However much the judge could read, its prompt is one message, which is bounded like every text."""
    subject = Subject("o" * MAX_TEXT, (), question="q" * MAX_TEXT, reference="r" * MAX_TEXT, context="c" * MAX_TEXT)
    prompt = build_prompt(Rubric(question="?" * MAX_SHORT_TEXT), subject, YES_NO, context_length=1_000_000)
    assert prompt.shortened
    assert MAX_TEXT * 0.9 < len(prompt.messages[-1].content) <= MAX_TEXT


def test_a_rubric_shows_what_it_says_and_gives_its_guidance() -> None:
    subject = Subject("OUT", (), question="IN", reference="REF", context="CON")
    of = Rubric(question="Is it kind?", guidance="Brevity is no fault.", show=("input",))
    user = build_prompt(of, subject, YES_NO, context_length=2048).messages[-1].content
    assert "IN" in user
    assert "REF" not in user
    assert "CON" not in user
    assert "Is it kind?\nBrevity is no fault." in user
