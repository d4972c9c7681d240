"""What keys may do."""

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.http.scopes import USUAL, Scope, allows, granted, scopes_of


def test_to_write_implies_to_read():
    """Of the same things, and not the other way."""
    assert allows({Scope.JOBS_WRITE}, Scope.JOBS_READ)
    assert allows({Scope.JOBS_READ}, Scope.JOBS_READ)
    assert not allows({Scope.JOBS_READ}, Scope.JOBS_WRITE)
    assert not allows({Scope.FILES_WRITE}, Scope.JOBS_READ)
    assert not allows(set(), Scope.METRICS)


def test_figures_of_the_whole_are_not_given_unasked():
    """They are of no tenant's business."""
    assert Scope.METRICS not in USUAL


def test_names_are_checked_when_they_are_given_and_not_when_they_are_read():
    """A key of a later version still opens what this one knows."""
    assert granted(("jobs:read", "dreams:read")) == {Scope.JOBS_READ}
    assert scopes_of(["jobs:read"]) == {Scope.JOBS_READ}
    with pytest.raises(ConfigurationError, match=r"dreams:read.*jobs:write"):
        scopes_of(["dreams:read"])
