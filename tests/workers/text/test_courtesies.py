"""Greetings, asides and thanks around a question count for nothing, and words of the question stay."""

import pytest

from headrace_workers.features.cache.guards.refusal import refusal
from headrace_workers.text.normalised import quiet, without_courtesies, without_smileys
from headrace_workers.text.profile import profile

ASKED = "how do I reset my router?"


BEFORE = (
    "Dear support, {}",
    "Sorry to bother you, but {}",
    "Excuse me, {}",
    "Urgent: {}",
    "Hi! Quick one: {}",
    "Hi Support Team, {}",
    "Hope you're well. {}",
    "Hi, I need help. {}",
    "Hey bot, {}",
)
BEHIND = (
    "Many thanks, Anna",
    "Best, Tom",
    "Kind regards",
    "Any help would be appreciated!",
    "Please help!",
    "I'd appreciate any help.",
    "Just curious.",
    "asap",
    "That's all, thanks.",
    "Please advise.",
)


@pytest.mark.parametrize("said", BEFORE)
def test_what_stands_before_a_question_is_left_out(said: str) -> None:
    assert without_courtesies(said.format(ASKED)) == ASKED


@pytest.mark.parametrize("said", BEHIND)
def test_what_stands_behind_a_question_is_left_out(said: str) -> None:
    assert without_courtesies(f"{ASKED} {said}") == ASKED


@pytest.mark.parametrize(
    "text",
    [
        "Help! lyrics by the Beatles",
        "Excuse me in Japanese",
        "How do I end a letter with kind regards",
        "Urgent: leak in the cellar",
        "What does asap mean",
        "How do I say thanks, Anna",
    ],
)
def test_words_that_a_question_is_about_stay(text: str) -> None:
    assert without_courtesies(text) == text


def test_capitals_and_smileys() -> None:
    assert quiet("HOW DO I RESET IT?") == "how do i reset it?"
    assert quiet("IT HR") == "IT HR"
    assert without_smileys("Is it open? :) 🙏") == "Is it open?"
    assert without_smileys("What does 🙏 mean") == "What does 🙏 mean"


def test_guards_pass_courtesies_and_no_other_question() -> None:
    cached = profile("How do I reset my router?")
    assert refusal(profile("SORRY TO BOTHER YOU, HOW DO I RESET MY ROUTER? MANY THANKS"), cached) is None
    assert refusal(profile("Sorry to bother you, how do I return my router? Many thanks"), cached) is not None


@pytest.mark.parametrize(
    "text",
    [
        "What is it?" + "\U0001f600" * 60 + "x",
        "sorry" + "." * 200 + "x",
        "What is it?" + " Thanks." * 20_000,
    ],
    ids=["smileys", "dots", "thanks"],
)
def test_a_text_that_was_made_to_be_slow_is_left_as_it_is(text: str) -> None:
    """A pattern that tried each way to part it would not end."""
    assert without_courtesies(without_smileys(text)) == text
