"""How large bodies may be."""

import pytest

from headrace_workers.http import bodies


def test_a_path_has_its_own_bound_with_all_below_it(monkeypatch: pytest.MonkeyPatch):
    """The longest that fits counts; all others have the usual one."""
    monkeypatch.setattr(bodies, "BODY_BYTES", {"/v1/files": 5, "/v1/files/small": 2})
    found = [bodies.body_bound(path, 1) for path in ("/v1/files", "/v1/files/x", "/v1/filesx", "/v1/files/small/x")]
    assert found == [5, 5, 1, 2]
