import pytest
from tests.workers.features.cache.guards.question_pairs import pairs, wordings

from headrace_workers.features.cache.guards.refusal import GUARDS
from headrace_workers.text.profile import Profile, have_same_reading, profile, read_once


def test_a_question_is_read_once_by_each_guard():
    readings = []

    @read_once
    def count(read, first):
        readings.append((read, first))
        return len(read.tokens) - first

    one, other = profile("two words"), profile("three other words")
    assert [count(one, 0), count(one, 0), count(one, 1), count(other, 0), count(one, 1)] == [2, 2, 1, 3, 1]
    assert readings == [(one, 0), (one, 1), (other, 0)]
    assert one == profile("two words")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I repair the lamp in the hall?", "What is the way to repair the lamp in the hall?"),
        ("hi, how do i reset my password", "hi, how can I reset my password?"),
        ("Where can I park in Lisbon?", "Where do I park in Lisbon"),
    ],
)
def test_questions_that_differ_in_phrases_and_signs_alone_read_alike(one: str, other: str) -> None:
    assert have_same_reading(profile(one), profile(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is the mill open?", "Was the mill open?"),  # one key, two texts
        ("Do all of them fit?", "Do whole of them fit?"),
        ("Who sells the stamps?", "Who sold the stamps?"),
        ("Where is a polish bar?", "Where is a Polish bar?"),  # a name
        ('What does "well-known" mean?', 'What does "well known" mean?'),  # the same tokens
        ('What does "run" mean?', "What does run mean?"),
        ("Is it safe?", "Is it not safe?"),
        ("Ann helps Bob", "Bob helps Ann"),
        ("Open the door", "Open the door. Open the door"),
        ("", "a"),
    ],
)
def test_what_any_guard_may_look_at_reads_otherwise(one: str, other: str) -> None:
    assert not have_same_reading(profile(one), profile(other))


def test_what_reads_alike_is_refused_by_no_guard() -> None:
    reads: dict[str, Profile] = {}
    written = [(asked, cached) for _, asked, cached in pairs()]
    typed = [pair for name in ("wordings.txt", "typed.txt") for kind in wordings(name) for pair in kind]
    alike = 0
    for asked, cached in (*written, *typed):
        one, other = (reads.setdefault(text, profile(text)) for text in (asked, cached))
        if asked != cached and have_same_reading(one, other):
            alike += 1
            assert [guard.name for guard in GUARDS if guard.refuse(one, other) or guard.refuse(other, one)] == []
    assert alike > 100
