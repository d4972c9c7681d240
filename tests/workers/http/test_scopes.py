import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import installed
from headrace_workers.core.scopes import (
    JOBS_READ,
    JOBS_WRITE,
    METRICS,
    OPERATOR,
    all_scopes,
    allows,
    granted,
    scopes_of,
    usual_scopes,
)
from headrace_workers.features.files.feature import FILES_WRITE


def test_to_write_implies_to_read():
    assert allows({JOBS_WRITE}, JOBS_READ)
    assert allows({JOBS_READ}, JOBS_READ)
    assert not allows({JOBS_READ}, JOBS_WRITE)
    assert not allows({FILES_WRITE}, JOBS_READ)
    assert not allows(set(), METRICS)


def test_what_is_of_the_whole_deployment_is_not_given_unasked():
    assert usual_scopes().isdisjoint({METRICS, OPERATOR})


def test_names_are_checked_when_they_are_given_and_not_when_they_are_read():
    assert granted(("jobs:read", "dreams:read")) == {JOBS_READ}
    assert scopes_of(["jobs:read"]) == {JOBS_READ}
    with pytest.raises(ConfigurationError, match=r"dreams:read.*jobs:write"):
        scopes_of(["dreams:read"])


def test_a_key_can_have_the_scopes_of_every_feature():
    of_features = [scope for feature in installed() for scope in feature.scopes]
    assert set(of_features) < scopes_of(all_scopes())
    assert len(set(all_scopes())) == len(all_scopes()) == len(of_features) + 4
