import os

import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.tables import sqlite_tables
from tests.workers.changed_settings import changed
from tests.workers.core.ledger.test_work import settings
from tests.workers.features.moderation.test_moderator import Fake, each

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import Progress
from headrace_workers.features.moderation.deployed_policy import WatchedModerator
from headrace_workers.features.moderation.moderator import Aids
from headrace_workers.features.moderation.parts import PolicyNews, moderator
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.store import Policies
from headrace_workers.features.moderation.tables import POLICIES


class Away:
    """A ledger that does not answer for the first two times."""

    def __init__(self, policies):
        self.policies, self.asked = policies, 0

    def note(self, *said, **more):
        self.asked += 1
        if self.asked < 3:
            raise Unavailable("no")
        return self.policies.note(*said, **more)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    yield ledger
    ledger.close()


def write(file, text):
    other = file.with_name("new")
    other.write_text(text)
    os.replace(other, file)
    return file


def types(ledger):
    return [row.record.headers["ce_type"].removeprefix("headrace.policy.") for row in ledger.outbox(10)]


def test_a_worker_tells_of_its_policy_while_nothing_is_moderated(ledger, tmp_path):
    file = write(tmp_path / "policy.toml", 'categories.email = "allow"\n')
    moderator = WatchedModerator(file, [Fake(each("e", "email"))], every=0.0)
    away = Away(ledger.of(Policies))
    news = PolicyNews(away, moderator.in_force, Progress().loop("policies"), every=0.01)
    news.start()
    try:
        eventually(lambda: away.asked == 3)  # the first is no switch
        write(file, 'categories.email = "block"\n')
        eventually(lambda: types(ledger) == ["switched.v1"])
        write(file, 'categories.email = "hide"\n')
        eventually(lambda: types(ledger) == ["switched.v1", "refused.v1"])
        write(file, 'tenants.shop.categories.email = "redact"\n')
        eventually(lambda: len(types(ledger)) == 4)
    finally:
        news.stop()
    assert types(ledger) == ["switched.v1", "refused.v1", "switched.v1", "switched.v1"]
    assert moderator.in_force().versions == load_policy(file).versions


@pytest.mark.parametrize("named", [True, False], ids=["a file", "the default"])
def test_who_moderates_outputs_tells_of_its_policy(ledger, tmp_path, named):
    file = write(tmp_path / "policy.toml", 'categories.email = "allow"\ntenants.shop.screen = true\n')
    policy = load_policy(file if named else None)
    moderator(changed(settings(), ModerationSettings(policy=file if named else None)), Aids(), [], ledger, Progress())
    eventually(lambda: len(ledger.read(select(POLICIES))) == len(policy.versions))
    assert {row.tenant: row.version for row in ledger.read(select(POLICIES))} == policy.versions
