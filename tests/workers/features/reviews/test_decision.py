import pytest

from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.reviews.decision import decision_of

GOOD = [{"criterion": "good", "value": 1.0}]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"action": "correct", "corrected": "x" * 200_001}, "corrected: has more than 200000 characters"),
        ({"action": "correct", "corrected": "a\x00b"}, "corrected: holds the character NUL"),
        ({"action": "correct", "corrected": "a\ud800"}, "corrected: holds half of a surrogate pair"),
        ({"action": "correct", "corrected": ""}, "corrected: is empty"),
        ({"action": "correct"}, "corrected is given exactly with the action correct"),
        ({"action": "release", "corrected": "x"}, "corrected is given exactly with the action correct"),
        ({"action": "delete"}, "action: must be"),
        ({}, "labels is empty: give a label, or skip the item"),
        ({"action": "release", "recall": True}, "recall is for answers that have ended"),
        ({"labels": [{"criterion": "a", "category": "b", "value": 1}]}, "give one of both"),
        ({"labels": [*GOOD, *GOOD]}, "twice: name each once"),
        ({"labels": GOOD * 33}, "labels: at most 32"),
    ],
)
def test_a_decision_that_cannot_be_is_refused_with_words(fields, words):
    with pytest.raises(InvalidRecord, match=words):
        decision_of(fields)


def test_the_longest_text_is_taken():
    assert decision_of({"action": "correct", "corrected": "ä" * 200_000}).action == "correct"


def test_the_same_content_is_the_same_under_any_lease():
    one, two = (decision_of({"labels": GOOD, "lease": lease}) for lease in (1, 2))
    assert one.content == two.content != decision_of({"labels": GOOD, "note": "x"}).content
