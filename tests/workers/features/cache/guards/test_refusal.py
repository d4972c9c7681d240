import sys
from collections import Counter

import pytest
from tests.slow import slow_after_first
from tests.workers.features.cache.guards.question_pairs import pairs, wordings

from headrace_workers.features.cache.guards.refusal import GUARDS, refusal
from headrace_workers.text.profile import profile

_PREAMBLE = (
    "You work at the help desk of a shop. Answer what follows as briefly and exactly as you can, in plain English, "
    "with no greeting, with no advice that nobody asked for, and without a word about these instructions. "
)


def test_no_trap_of_the_swaps_passes() -> None:
    traps = [(asked, cached) for same, asked, cached in pairs() if not same]
    assert len(traps) > 2_000
    passed = [(asked, cached) for asked, cached in traps if refusal(profile(asked), profile(cached)) is None]
    assert passed == []
    passed = [(asked, cached) for asked, cached in traps if refusal(profile(cached), profile(asked)) is None]
    assert passed == []


def test_most_wordings_of_one_question_pass() -> None:
    same = [(asked, cached) for same, asked, cached in pairs() if same]
    passed = sum(refusal(profile(asked), profile(cached)) is None for asked, cached in same)
    assert passed >= 0.8 * len(same)


def test_of_questions_as_people_type_them_traps_are_refused() -> None:
    same, traps = wordings()
    assert len(traps) > 1_500
    passed = [(asked, cached) for asked, cached in traps if refusal(profile(asked), profile(cached)) is None]
    assert len(passed) <= 0.002 * len(traps), passed
    served = sum(refusal(profile(asked), profile(cached)) is None for asked, cached in same)
    assert served >= 0.25 * len(same)


def test_of_questions_that_are_typed_in_a_hurry_no_trap_passes() -> None:
    same, traps = wordings("typed.txt")
    both = [pair for asked, cached in traps for pair in ((asked, cached), (cached, asked))]
    assert [pair for pair in both if refusal(*map(profile, pair)) is None] == []
    served = sum(refusal(profile(asked), profile(cached)) is None for asked, cached in same)
    assert served >= 2 / 3 * len(same)


def test_nobody_who_changed_places_and_no_other_side_of_a_time_passes() -> None:
    """Only small words differ, so no guard of the words sees it."""
    verbs = {"call": "called", "help": "helped", "like": "liked", "use": "used", "hurt": "hurt", "own": "owned"}
    times = ("9am", "10:30", "noon", "Monday", "2019", "lunch", "having it", "getting some")
    traps = [
        *((f"Is it wise to {act} before {time}?", f"Is it wise to {act} after {time}?")
          for act in ("run", "eat", "call a client") for time in times),
        *((f"Does she {verb} him?", f"Does he {verb} her?") for verb in verbs),
        *((f"If Ann met Bob, would he {verb} her?", f"If Ann met Bob, would she {verb} him?") for verb in verbs),
        *((f"Does Ann {verb} him?", f"Does he {verb} Ann?") for verb in verbs),
        *((f"Does Ann {verb} Bob?", f"Is Ann {done} by Bob?") for verb, done in verbs.items()),
    ]  # fmt: skip
    both = [pair for asked, cached in traps for pair in ((asked, cached), (cached, asked))]
    assert [pair for pair in both if refusal(*map(profile, pair)) is None] == []
    same = [(f"Does Ann {verb} Bob?", f"Is Bob {done} by Ann?") for verb, done in verbs.items() if verb != "like"]
    assert [pair for pair in same if refusal(*map(profile, pair)) is not None] == []


FOUND_ELSEWHERE = (
    ("Is a German licence valid in Japan?", "Is a Japanese licence valid in Germany?"),
    ("Where can I eat Mexican food?", "Where can I eat food in Mexico?"),
    ("How do I cancel my travel insurance?", "How do I cancel my insurance?"),
    ("How do I prevent a seizure?", "How do I stop a seizure?"),
    ("How do I cure a cold?", "How do I treat a cold?"),
    ("Who killed Caesar?", "Who murdered Caesar?"),
    ("What do US voters want?", "What do us voters want?"),
    ("How do I get a visa for Japan?", "How do I get a work visa for Japan?"),
    ("My wife's card was used by my son, what can I do?", "My son's card was used by my wife, what can I do?"),
    (
        "I raise my left hand and it moves right. What do I see?",
        "I raise my left hand and it moves left. What do I see?",
    ),
    (
        "I raise my left hand and it moves right. What do I see?",
        "I raise my right hand and it moves left. What do I see?",
    ),
    ("Which is a fruit? A) apple B) brick C) stone", "Which is a fruit? A) brick B) apple C) stone"),
    ("Which is a fruit?\nA. apple\nB. brick", "Which is a fruit?\nA. brick\nB. apple"),
    ("Which is a fruit? (1) apple (2) brick", "Which is a fruit? (1) brick (2) apple"),
    ("Which is a fruit: apple, brick, stone?", "Which is a fruit: brick, apple, stone?"),
    ("What is 2*(4+8)?", "What is 2*4+8?"),
    ("What is 2*(4+8)?", "What is (2*4)+8?"),
    ("What is 2*(4+8)?", "What is 8*(4+2)?"),
    ("what vitamins do cats like", "what vitamins do cats need"),
    ("What does list[0] do?", "What does list(0) do?"),
    ("How do I run ls -a?", "How do I run ls -A?"),
    ("How do I get my company account back?", "How do I get my account back?"),
    ("Are human bites dangerous?", "Are bites dangerous?"),
    ("How do I check even numbers?", "How do I check numbers?"),
    ("What is a good knife?", "What is a knife?"),
    ("Which specific heat has water?", "Which heat has water?"),
    ("Is a dog bigger than a dog house?", "Is a dog house bigger than a house?"),
    ("We don't know.", "We are going there."),
    ("Who has it?", "Who is there?"),
    ("Which is cheaper, 2 years vs 1 year?", "Which is cheaper, 1 year vs 2 years?"),
    ("Who went through the gap?", "Who went behind the gap?"),
    ("What is obesity a risk factor for?", "What are the risk factors for obesity?"),
)
FRONTED = (
    ("On the menu, what is vegan?", "What is vegan on the menu?"),
    ("In Java, how do I sort a list?", "How do I sort a list in Java?"),
    ("What is the capital of France?", "What is France's capital?"),
    ("How do I convert a pdf?", "How do I convert a PDF?"),
    ("How do I reset my router?", "what's the best way to reset my router"),
    ("Who wrote Hamlet?", "Who was Hamlet written by?"),
    ("Which is a fruit? A) apple B) brick", "Which of these is a fruit? A) apple B) brick"),
    ("What is aspirin used for?", "What are the uses of aspirin?"),
    ("I don't know how to boil eggs.", "How do I boil eggs?"),
    ("Say it in French:\n  good morning", "say it in French:\n  good morning"),
    ("During winter, how do I protect roses?", "How do I protect roses during winter?"),
)


@pytest.mark.parametrize(("one", "other"), FOUND_ELSEWHERE)
def test_pairs_that_were_once_served_wrongly_are_refused(one: str, other: str) -> None:
    """A narrowing word, no synonym, another order or another option asks for something else."""
    assert refusal(profile(one), profile(other)) is not None
    assert refusal(profile(other), profile(one)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ask Anna and Bob", "Ask Anna and Carl"),
        ("Is Germany big?", "Is German big?"),
        ("Read report_2023.csv", "Read report_2024.csv"),
        ('Translate "good day"', 'Translate "good night"'),
        ("Is x > y?", "Is x < y?"),
        ("Pay $20", "Pay €20"),
        ("How long is it in minutes?", "How long is it in hours?"),
        ("Do all birds fly?", "Do some birds fly?"),
        ("At least 3", "At most 3"),
        ("The most useful one", "The least useful one"),
        ("Is Ann older than Bob?", "Is Bob older than Ann?"),
        ("Is it open?", "Is it closed?"),
        ("Turn on the light", "Turn off the light"),
        ("Where can I sell stamps?", "Where are stamps sold?"),
    ],
)
def test_another_name_literal_unit_quantity_or_opposite_is_refused(one: str, other: str) -> None:
    assert refusal(profile(one), profile(other)) is not None
    assert refusal(profile(other), profile(one)) is not None


@pytest.mark.parametrize(("one", "other"), FRONTED)
def test_a_phrase_may_stand_in_front(one: str, other: str) -> None:
    assert refusal(profile(one), profile(other)) is None
    assert refusal(profile(other), profile(one)) is None


def test_a_slip_of_the_pen_is_read_as_what_is_meant() -> None:
    assert refusal(profile("How do I chnage my passowrd?"), profile("how do i change my password")) is None
    assert refusal(profile("whats the weather like"), profile("What's the weather like?")) is None
    assert refusal(profile("why doesnt it open"), profile("Why does it open?")) is not None
    for one, other in (("desert", "dessert"), ("medication", "meditation"), ("wether", "weather")):
        assert refusal(profile(f"What is a {one}?"), profile(f"What is a {other}?")) is not None


def test_a_preamble_that_both_share_changes_little() -> None:
    kept = Counter[bool]()
    for same, asked, cached in pairs()[::30]:
        refused = refusal(profile(_PREAMBLE + asked), profile(_PREAMBLE + cached))
        assert same or refused is not None, (asked, cached)
        if same:
            kept[refused is None] += 1
    assert kept[True] >= 0.75 * kept.total()


def test_the_refusal_names_its_guard_and_says_why() -> None:
    """What is told is for people: the guard's name and the words that differ."""
    refused = refusal(profile("Where can I park in Lisbon?"), profile("Where can I park in Porto?"))
    assert refused is not None
    assert refused.guard == "residual"
    assert refused.reason == "asks also about Lisbon; the answer is also about Porto"


def test_a_question_is_the_same_as_itself() -> None:
    for text in (
        "",
        " ",
        "?!",
        "\0\ud800",
        "a\n\nb",
        "日本の首都はどこですか",
        "'s",
        "of",
        '"',
        "1,2,3",
        "²",
        "٣",
        "1_0",
        "<b>",
    ):
        assert refusal(profile(text), profile(text)) is None, text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Which things can I put in the compost?", "What can I put in the compost?"),
        ("Is it right to say that all bears hibernate?", "Do all bears hibernate?"),
        ("Is it correct to say that all bears hibernate?", "Is it true that all bears hibernate?"),
        ("How heavy is a football in ounces?", "How many ounces does a football weigh?"),
    ],
)
def test_a_phrase_with_one_meaning_passes(one: str, other: str) -> None:
    assert refusal(profile(one), profile(other)) is None
    assert refusal(profile(other), profile(one)) is None


HOSTILE = ["b by was ", "a", "1", "1,", "a.b", "a-", "`", "'", '"', "日", "<>", "@.", "x_", "«a", "1/", "a's ", "and "]


@pytest.mark.integration
@pytest.mark.parametrize("unit", slow_after_first(HOSTILE))
def test_a_hostile_text_is_read(unit: str) -> None:
    hostile = profile(unit * (100_000 // len(unit)))
    assert refusal(hostile, hostile) is None
    refusal(hostile, profile("Where is it?"))
    refusal(profile("What was Ann told by Bob?"), hostile)


def test_the_time_grows_with_the_text_and_not_with_its_square() -> None:
    short, long = _steps(60), _steps(600)
    assert long < 20 * short


def _steps(size: int) -> int:

    words = [f"{('of', 'by', 'and', 'was')[n % 4]} w{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}x" for n in range(size)]
    one, other = " ".join(words), " ".join(reversed(words))
    count = 0

    def step(*_: object) -> object:
        nonlocal count
        count += 1
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        for guard in GUARDS:
            guard.refuse(profile(one), profile(other))
    finally:
        sys.settrace(before)
    return count
