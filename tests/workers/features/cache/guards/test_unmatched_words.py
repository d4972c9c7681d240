import pytest

from headrace_workers.features.cache.guards.unmatched_words import Residual
from headrace_workers.text.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Can cats eat grapes?", "Can dogs eat grapes?"),
        ("How do I clean a brush?", "How do I clean a dirty brush?"),
        ("Which city is it in?", "Which country is it in?"),
        ("capital of france", "capital of spain"),
        ("日本の首都", "中国の首都"),
        ("Wo ist der Hund?", "Wo ist die Katze?"),
        ("How do I use a tent?", "How do I make a tent?"),
        ("What do cats need?", "What do cats contain?"),
        ("List the causes", "Explain the causes"),
        ("Which is the right hand?", "Which is the hand?"),
        ("How do I draw a city map?", "How do I draw a map?"),
        ("What interest rate time is it?", "What interest time is it?"),
        ("Where is a travel agency?", "Where is an agency?"),
        ("Which city has the highest rent?", "What is the highest rent?"),
        ("Which city is the capital of France?", "Explain the capital of France"),
        ("Name a river", "What is a river?"),
        ("Find notaries", "What are notaries?"),
        ("Tell me a joke", "What is a joke?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Residual().refuse(profile(asked), profile(cached))
    assert Residual().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Which cities grow?", "Which city is growing?"),
        ("Fix a bicycle", "Repair a bike"),
        ("The colour of it", "The color of it"),
        ("What is the capital of France?", "Which city is the capital of France?"),
        ("Organise a party", "Organize a party"),
        ("Cancel it", "The cancellation of it"),
        ("日本の首都", "日本の首都"),
        ("What are the causes?", "List the causes"),
        ("How soon does it open?", "When does it open?"),
        ("Explain tides", "The meaning of tides"),
        ("Which city is the capital of France?", "Name the capital of France"),
        ("Explain a tide", "What is a tide?"),
        ("Tell me what a tide is", "What is a tide?"),
        ("Is it usual to tip?", "Is tipping customary?"),
        ("Is the frequency harmful?", "Does it do harm, as it is frequent?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Residual().refuse(profile(asked), profile(cached)) is None
    assert Residual().refuse(profile(cached), profile(asked)) is None
