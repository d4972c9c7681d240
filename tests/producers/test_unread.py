from headrace_producers.marks import Marks
from headrace_producers.unread import Item, Unread

P, Q = ("results", 0), ("results", 1)


def item(content, place=P, offset=0, size=10):
    return Item(place, offset, size, content)


def test_what_is_not_wanted_is_kept_in_order():
    unread = Unread(100)
    for number, content in enumerate("abc"):
        unread.add(item(content, offset=number), wanted=False)
    number, found = unread.find(lambda each: each == "b")
    assert found.content == "b"
    unread.remove(number)
    assert unread.find(lambda each: True, after=number)[1].content == "c"
    assert unread.find(lambda each: True)[1].content == "a"
    assert unread.find(lambda each: each == "b") is None


def test_what_there_is_no_room_for_is_left_from_there_on():
    unread = Unread(25)
    unread.add(item("a", P, 7, 20), wanted=False)
    unread.add(item("b", P, 8, 20), wanted=False)
    unread.add(item("c", P, 9, 1), wanted=False)
    unread.add(item("d", Q, 3, 1), wanted=False)
    unread.add(item("e", P, 10, 1_000), wanted=True)
    assert [unread.find(lambda each, name=name: each == name) is not None for name in "abcde"] == [
        True, False, False, True, True,
    ]  # fmt: skip
    assert unread.take_left() == {P: 8}
    assert unread.take_left() == {}


def test_room_comes_back():
    unread = Unread(10)
    for _ in range(3):
        unread.add(item("a"), wanted=False)
        unread.remove(unread.find(lambda each: True)[0])
    assert len(unread) == 0
    assert unread.left == {}


def test_a_log_that_is_gone_leaves_what_was_kept():
    """It can be handed out, and has no offset that would mean anything."""
    unread = Unread(15)
    for offset in range(3):
        unread.add(item(offset, P, offset), wanted=False)
    unread.add(item("other", Q), wanted=True)
    unread.detach([P])
    assert unread.find(lambda each: each == 0)[1].place is None
    assert unread.find(lambda each: each == "other")[1].place == Q
    assert unread.left == {}


def test_only_what_one_has_gone_on_from_is_committed():
    marks = Marks()
    marks.returned(P, 4)
    assert marks.to_commit([P, Q]) == {}
    marks.finish()
    marks.returned(Q, 0)
    assert marks.to_commit([P, Q]) == {P: 5}
    assert marks.to_commit([Q]) == {}
    marks.committed({P: 5})
    assert marks.to_commit([P, Q]) == {}
    marks.finish()
    assert marks.to_commit([P, Q]) == {Q: 1}
    marks.forget([Q])
    assert marks.to_commit([P, Q]) == {}
