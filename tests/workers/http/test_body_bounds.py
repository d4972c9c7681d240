import pytest

from headrace_workers.http import bodies
from headrace_workers.http.bodies import GRACE_SECONDS, LEAST_RATE, Pace


def test_a_path_has_its_own_bound_with_all_below_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "BODY_BYTES", {"/v1/files": 5, "/v1/files/small": 2})
    found = [bodies.body_bound(path, 1) for path in ("/v1/files", "/v1/files/x", "/v1/filesx", "/v1/files/small/x")]
    assert found == [5, 5, 1, 2]


def test_a_slow_upload_may_take_its_time():
    pace = Pace()
    for _ in range(20_000):
        pace.took(50.0, 50 * LEAST_RATE)
        assert pace.left > 0


def test_who_drips_is_given_up():
    pace = Pace()
    pace.took(30.0, 1)
    assert pace.left > 0
    pace.took(30.1, 1)
    assert pace.left <= 0


def test_what_came_fast_is_no_leave_to_stop():
    pace = Pace()
    pace.took(1.0, 10**9)
    assert pace.left == GRACE_SECONDS
