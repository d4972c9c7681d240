import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Dates


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Rain on 3 March 2024?", "Rain on 4 March 2024?"),
        ("Open on Monday?", "Open on Tuesday?"),
        ("Rain in April?", "Rain in May?"),
        ("At 10:30", "At 22:30"),
        ("Snow in winter", "Snow in summer"),
        ("On 2024-03-03", "On 2024-03-04"),
        ("Rain today or tomorrow", "Rain today or yesterday"),
        ("How much per day?", "How much per week?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Dates().refuse(profile(asked), profile(cached))
    assert Dates().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("On 3 March 2024", "On March 3rd, 2024"),
        ("On 2024-03-03", "On the 3rd of March 2024"),
        ("On Mondays", "On Monday"),
        ("In Sept 2020", "In September 2020"),
        ("May I march in step?", "Can I march in step?"),
        ("How often per day?", "How often each day?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Dates().refuse(profile(asked), profile(cached)) is None
    assert Dates().refuse(profile(cached), profile(asked)) is None
