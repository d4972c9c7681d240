from headrace_workers.core.ledger.claims import Claim


def test_a_lane_alone_is_counted_as_among_others(tasks):
    for number, queue, lane in ((1, "judge", 0), (2, "judge", 0), (3, "judge", 1), (4, "moderate", 0)):
        tasks.send(Claim(number, queue, queue, lane, 1))
    assert tasks.waiting([("judge", 0)]) == {("judge", 0): 2}
    assert tasks.waiting([("judge", 1)]) == {("judge", 1): 1}
    assert tasks.waiting([("judge", 0), ("judge", 1)]) == {("judge", 0): 2, ("judge", 1): 1}
    assert tasks.waiting([]) == {}
