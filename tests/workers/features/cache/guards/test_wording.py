import pytest

from headrace_workers.features.cache.guards.refusal import Guard
from headrace_workers.features.cache.guards.wording import Dates, Negation, Numbers, Repeats, Tense
from headrace_workers.text.profile import profile

REFUSED = (
    (Numbers(), "Buy 2 shirts", "Buy 3 shirts"),
    (Numbers(), "Mix 5 apples and 3 pears", "Mix 3 apples and 5 pears"),
    (Numbers(), "The second floor", "The third floor"),
    (Numbers(), "Boil a dozen eggs", "Boil ten eggs"),
    (Numbers(), "Is 0.5 enough?", "Is 0.05 enough?"),
    (Numbers(), "World War II", "World War III"),
    (Numbers(), "Version 3", "Version"),
    (Numbers(), "What is 5 - 3?", "What is -5 - 3?"),
    (Numbers(), "The energy of one egg", "The energy of two eggs"),
    (Dates(), "Rain on 3 March 2024?", "Rain on 4 March 2024?"),
    (Dates(), "Open on Monday?", "Open on Tuesday?"),
    (Dates(), "Rain in April?", "Rain in May?"),
    (Dates(), "At 10:30", "At 22:30"),
    (Dates(), "Snow in winter", "Snow in summer"),
    (Dates(), "On 2024-03-03", "On 2024-03-04"),
    (Dates(), "Rain today or tomorrow", "Rain today or yesterday"),
    (Dates(), "How much per day?", "How much per week?"),
    (Negation(), "Is it safe?", "Is it not safe?"),
    (Negation(), "Is it safe?", "Is it unsafe?"),
    (Negation(), "Why does it start?", "Why doesn't it start?"),
    (Negation(), "Travel with a visa", "Travel without a visa"),
    (Negation(), "A refundable ticket", "A non-refundable ticket"),
    (Negation(), "Do cats swim?", "Do cats never swim?"),
    (Negation(), "It is possible", "It is impossible"),
    (Negation(), "Connect it", "Disconnect it"),
    (Negation(), "Tea with sugar", "Sugarless tea"),
    (Negation(), "I can go", "I can't go"),
    (Tense(), "Who is the president?", "Who was the president?"),
    (Tense(), "Will it rain?", "Did it rain?"),
    (Repeats(), "The left hand moves right", "The left hand moves left"),
)
PASSED = (
    (Numbers(), "Buy two shirts", "Buy 2 shirts"),
    (Numbers(), "Pay 1,500.50 now", "Pay 1500.5 now"),
    (Numbers(), "twenty-five years", "25 years"),
    (Numbers(), "two hundred and five days", "205 days"),
    (Numbers(), "a dozen eggs", "12 eggs"),
    (Numbers(), "1.5 million people", "1,500,000 people"),
    (Numbers(), "the 3rd floor", "the third floor"),
    (Numbers(), "How does one open it?", "How do you open it?"),
    (Numbers(), "Pay ５ now", "Pay 5 now"),
    (Numbers(), "The energy of one egg", "The energy of an egg"),
    (Dates(), "On 3 March 2024", "On March 3rd, 2024"),
    (Dates(), "On 2024-03-03", "On the 3rd of March 2024"),
    (Dates(), "On Mondays", "On Monday"),
    (Dates(), "In Sept 2020", "In September 2020"),
    (Dates(), "May I march in step?", "Can I march in step?"),
    (Dates(), "How often per day?", "How often each day?"),
    (Negation(), "Is it unsafe?", "Is it not safe?"),
    (Negation(), "Why isn't it open?", "Why is it not open?"),
    (Negation(), "It cannot start", "It can not start"),
    (Negation(), "I am unable to go", "I can't go"),
    (Tense(), "Who is the author of it?", "Who was it written by?"),
    (Tense(), "Who is it?", "Tell me who it is"),
    (Tense(), "How long will it keep?", "How long does it keep?"),
    (Tense(), "Why won't it start?", "Why doesn't it start?"),
    (Repeats(), "Is a dog big?", "Is a cat big?"),
)


@pytest.mark.parametrize(("guard", "asked", "cached"), REFUSED)
def test_refuses(guard: Guard, asked: str, cached: str) -> None:
    assert guard.refuse(profile(asked), profile(cached))
    assert guard.refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(("guard", "asked", "cached"), PASSED)
def test_passes(guard: Guard, asked: str, cached: str) -> None:
    assert guard.refuse(profile(asked), profile(cached)) is None
    assert guard.refuse(profile(cached), profile(asked)) is None
