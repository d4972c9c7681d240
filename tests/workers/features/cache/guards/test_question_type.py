import pytest

from headrace_workers.features.cache.guards.question_type import AskedFor
from headrace_workers.text.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("When was it built?", "Where was it built?"),
        ("Who did it?", "Why did he do it?"),
        ("The population of Peru", "The area of Peru"),
        ("Is it safe?", "Why is it safe?"),
        ("How many planets are there?", "Which planets are there?"),
        ("How long is it?", "How old is it?"),
        ("Can I cancel it?", "How can I cancel it?"),
        (
            "For all who read. Please explain when it was built",
            "For all who read. Please explain why it was built",
        ),
        ("For whom was it written?", "By whom was it written?"),
        ("Who founded it?", "What is the founding year of it?"),
        ("When is it open?", "How long is it open?"),
        ("Can it be that he was late?", "Which of them was late?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert AskedFor().refuse(profile(asked), profile(cached))
    assert AskedFor().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("What year was it built?", "When was it built?"),
        ("What is the way to open it?", "How do I open it?"),
        ("What is the reason for it?", "Why is it?"),
        ("Tell me the author of it", "Who is the author of it?"),
        ("How come it rains?", "Why is it that it rains?"),
        ("What is the population of Peru?", "How many people live in Peru?"),
        ("I want to open it", "How do I open it?"),
        ("What should I use when I travel?", "What should I use for travel?"),
        ("How old is it?", "What is the age of it?"),
        ("Sort a list", "How do I sort a list?"),
        ("Is there a train?", "Which train is there?"),
        ("In summer, is it open?", "Is it open in summer?"),
        ("What is the weather like?", "How is the weather?"),
        ("Tell me if it is open", "Is it open?"),
        ("Can I eat rice which was left out?", "Can I eat rice?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert AskedFor().refuse(profile(asked), profile(cached)) is None
    assert AskedFor().refuse(profile(cached), profile(asked)) is None
