"""What a worker can be asked to be."""

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.pipeline.roles import Role, queues_of, roles_of, steps_of
from headrace_workers.testing import EchoGenerator


def test_words_name_roles():
    """Several may be given, `all` is every one, and twice is once."""
    assert roles_of(["judge", "moderate", "judge"]) == {Role.JUDGE, Role.MODERATE}
    assert roles_of(["all"]) == set(Role)


@pytest.mark.parametrize("names", [["cook"], []])
def test_other_words_are_refused_with_those_that_are_known(names):
    """The message lists what a role may be."""
    with pytest.raises(ConfigurationError, match="generate, moderate, judge or all"):
        roles_of(names)


def test_a_generate_worker_needs_a_model():
    """Other roles need none."""
    # What was begun is finished first.
    assert queues_of(frozenset({Role.MODERATE, Role.JUDGE}), None) == ["judge", "moderate"]
    with pytest.raises(ConfigurationError, match="--model"):
        queues_of(frozenset({Role.GENERATE}), None)


@pytest.mark.parametrize("role", Role)
def test_every_queue_has_its_steps_and_nothing_more_is_loaded(role):
    """A worker can do what it listens to; a judge without a model loads none."""
    loaded = []

    def generator(alias):
        loaded.append(alias)
        return EchoGenerator(alias)

    def moderator():
        loaded.append("moderator")
        return

    roles = frozenset({role})
    steps = steps_of(roles, "echo", generator=generator, moderator=moderator)
    assert {queue for queue, _ in steps} == set(queues_of(roles, "echo"))
    assert loaded == {Role.GENERATE: ["echo"], Role.MODERATE: ["moderator"], Role.JUDGE: []}[role]
    if role is Role.GENERATE:  # a rubric that asks this model is judged here
        assert set(steps) == {("model.echo", "generate"), ("model.echo", "judge")}
