import pytest

from headrace_workers.features.generation.openai.responses import references, with_items
from headrace_workers.http.openai_errors import Refused


def of(*ids: object) -> list[dict[str, object]]:
    return [{"type": "item_reference", "id": id} for id in ids]


def test_references_are_found_by_their_place():
    """Among items that are there themselves; a text has none, nor has a list of what is no item."""
    assert references({"input": [{"role": "user", "content": "a"}, *of("msg_1")]}) == {1: "msg_1"}
    assert references({"input": "a"}) == references({}) == references({"input": ["a"]}) == {}


def test_the_items_stand_in_their_places():
    """All else stays as it was."""
    body = {"model": "mill", "input": [*of("msg_1"), {"role": "user", "content": "a"}]}
    item = {"type": "message", "role": "assistant", "content": "b"}
    assert with_items(body, {0: item}) == {"model": "mill", "input": [item, {"role": "user", "content": "a"}]}
    assert with_items(body, {}) is body


@pytest.mark.parametrize(
    ("items", "param"),
    [
        (of(None), "input[0].id"),
        (of(1), "input[0].id"),
        ([{"type": "item_reference", "id": "msg_1", "role": "user"}], "input[0].role"),
        (of(*map(str, range(257))), "input"),
    ],
)
def test_what_is_no_reference_is_refused(items, param):
    """By its place. Each is looked up, so there are not too many."""
    with pytest.raises(Refused) as caught:
        references({"input": items})
    assert caught.value.param == param
