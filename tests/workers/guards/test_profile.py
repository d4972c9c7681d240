"""What guards read of a question."""

from headrace_workers.guards.profile import profile, read_once


def test_a_question_is_read_once_by_each_guard():
    """However many it is compared with; from another place on, and another question, is another reading."""
    readings = []

    @read_once
    def count(read, first):
        readings.append((read, first))
        return len(read.tokens) - first

    one, other = profile("two words"), profile("three other words")
    assert [count(one, 0), count(one, 0), count(one, 1), count(other, 0), count(one, 1)] == [2, 2, 1, 3, 1]
    assert readings == [(one, 0), (one, 1), (other, 0)]
    assert one == profile("two words")
