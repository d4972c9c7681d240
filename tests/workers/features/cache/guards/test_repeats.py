from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Repeats


def test_refuses_a_word_that_one_question_has_twice() -> None:
    one, other = profile("The left hand moves right"), profile("The left hand moves left")
    assert Repeats().refuse(one, other)
    assert Repeats().refuse(other, one)


def test_passes_words_that_only_one_question_has() -> None:
    one, other = profile("Is a dog big?"), profile("Is a cat big?")
    assert Repeats().refuse(one, other) is None
