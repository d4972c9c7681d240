import itertools
import os
from pathlib import Path

import pytest
from tests.workers.features.moderation.test_moderator import Fake, each

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.config_watch import standings
from headrace_workers.features.moderation.deployed_policy import WatchedModerator, WatchedPolicy
from headrace_workers.features.moderation.detector import Moderation


class Watch:
    """A moderator whose policy is a file of this folder, and whose time is told."""

    def __init__(self, folder: Path) -> None:
        self.file, self.now, self.changes = folder / "policy.toml", 0.0, 0
        self.write('categories.email = "allow"\n')
        self.moderator = WatchedModerator(self.file, [Fake(each("e", "email"))], every=2.0, monotonic=lambda: self.now)

    def write(self, text: str, name: str = "policy.toml") -> None:
        self.changes += 1
        other = self.file.with_name(f"{self.changes}.new")
        other.write_text(text)
        os.replace(other, self.file.with_name(name))

    def action(self, text: str = "e", after: float = 2.0) -> str:
        self.now += after
        (verdict,) = self.moderator.moderate([text])
        assert isinstance(verdict, Moderation)
        return verdict.action


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path)


def test_a_change_is_followed(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "headrace")
    watch.write('categories.email = "block"\n')
    assert watch.action(after=1.9) == "allow"
    assert watch.action(after=0.1) == "block"
    assert [record.action for record in caplog.records] == ["policy_changed"]


def test_a_wrong_one_leaves_the_old_one(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "headrace")
    watch.write('\ncategories.email = "hide"\n')
    assert [watch.action() for _ in range(3)] == ["allow"] * 3
    assert [
        (record.action, "line 2: categories.email: unknown action" in record.message) for record in caplog.records
    ] == [("policy_refused", True)]
    watch.write('categories.email = "redact"\n')
    assert watch.action() == "redact"


def test_what_is_wrong_is_told_once_a_process(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    routing = WatchedPolicy(watch.file, what="routing", every=2.0, monotonic=lambda: watch.now)
    marks = WatchedPolicy(watch.file, what="marks", every=2.0, monotonic=lambda: watch.now)
    caplog.set_level("ERROR", "headrace")
    right = {standing.version for standing in standings() if standing.path == str(watch.file)}
    assert len(right) == 1
    for times in (1, 2):
        watch.write("x = 1\n")
        for _ in range(2):
            watch.action()
            routing.of("shop")
            marks.of("shop")
        assert [record.action for record in caplog.records] == ["policy_refused"] * times
        found = [standing for standing in standings() if standing.path == str(watch.file)]
        assert [standing.what for standing in found] == ["marks", "outputs", "routing"]
        assert {standing.version for standing in found} == right
        assert all("line 1: x: unknown key" in str(standing.refused) for standing in found)
        watch.write('categories.email = "allow"\n')
        watch.action()  # the others do not look before it is wrong again
    watch.write('categories.email = "block"\n')
    watch.action()
    (outputs,) = (
        standing for standing in standings() if standing.path == str(watch.file) and standing.what == "outputs"
    )
    assert (outputs.refused, outputs.version not in right) == (None, True)


def test_what_only_some_refuse_is_told(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    routing = WatchedPolicy(watch.file, every=2.0, monotonic=lambda: watch.now)
    caplog.set_level("ERROR", "headrace")
    watch.write('blocklist = "none.txt"\n')
    watch.now += 2.0
    routing.of("shop")
    watch.action(after=0.0)
    assert len(caplog.records) == 1
    refused = {
        standing.what: standing.refused is not None for standing in standings() if standing.path == str(watch.file)
    }
    assert refused == {"outputs": True, "routing": False}


def test_a_file_that_is_gone_leaves_the_old_one(watch: Watch) -> None:
    """Nobody is moderated by the default policy because a file was deleted."""
    watch.file.unlink()
    assert watch.action() == "allow"
    watch.write('categories.email = "block"\n')
    assert watch.action() == "block"


def test_a_list_is_followed_as_well(watch: Watch) -> None:
    watch.write('blocklist = "list.txt"\ncategories.email = "allow"\n')
    assert watch.action("heron") == "allow"
    watch.write("heron\n", "list.txt")
    assert watch.action("heron") == "block"
    watch.write("falcon\n", "list.txt")
    assert (watch.action("heron"), watch.action("falcon")) == ("allow", "block")
    watch.write("re:(\n", "list.txt")
    assert watch.action("falcon") == "block"


def test_what_holds_is_another_when_the_policy_or_a_list_is_another(watch: Watch) -> None:
    watch.write('blocklist = "list.txt"\n')
    watch.write("heron\n", "list.txt")

    def standing() -> object:
        watch.now += 2.0
        return watch.moderator.standing()

    seen = [standing(), standing()]
    watch.write("falcon\n", "list.txt")
    seen.append(standing())
    watch.write("screen = true\n")
    seen.append(standing())
    assert [before is now for before, now in itertools.pairwise(seen)] == [True, False, False]


def test_a_wrong_one_at_the_start_is_refused(tmp_path: Path) -> None:
    """There is no old one that could hold."""
    (tmp_path / "policy.toml").write_text("x = 1\n")
    with pytest.raises(ConfigurationError, match="line 1: x: unknown key"):
        WatchedModerator(tmp_path / "policy.toml", [])


def test_who_moderates_nothing_follows_the_policy_as_well(tmp_path: Path) -> None:
    file, now = tmp_path / "policy.toml", [0.0]
    file.write_text("screen = true\n")
    watched = WatchedPolicy(file, every=2.0, monotonic=lambda: now[0])
    assert watched.of("shop").screen
    for text, screens in (("screen = 3\n", True), ("[tenants.shop]\nscreen = false\n", False)):
        file.write_text(text)
        now[0] += 2.0
        assert watched.of("shop").screen is screens
