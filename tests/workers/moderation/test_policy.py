from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.moderation.blocklist import BlocklistDetector
from headrace_workers.moderation.personal_data import PersonalDataDetector
from headrace_workers.moderation.policy import Rule, load_policy
from headrace_workers.moderation.profanity import ProfanityDetector
from headrace_workers.moderation.secrets import SecretsDetector


def write(path: Path, text: str) -> Path:
    file = path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_default_policy_has_a_rule_for_every_category() -> None:
    """What the detectors may report and what the default policy names are the same."""
    detectors = (PersonalDataDetector, SecretsDetector, ProfanityDetector, BlocklistDetector)
    assert load_policy().rules.keys() == frozenset().union(*(d.categories for d in detectors))


def test_default_policy_redacts_data_and_blocks_insults() -> None:
    """Personal data and secrets are cut out; insults and listed terms withhold the answer."""
    rules = load_policy().rules
    assert {rules[name].action for name in ("email", "card", "phone", "iban", "secret")} == {"redact"}
    assert rules["profanity"] == Rule("block", 0.9)
    assert rules["blocklist"].action == "block"


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    """Other categories keep the default, and the blocklist is looked for beside the policy."""
    text = 'blocklist = "list.txt"\n[categories]\nemail = "block"\nphone = { action = "allow", min_score = 0.7 }\n'
    policy = load_policy(write(tmp_path, text))
    assert policy.rules["email"] == Rule("block")
    assert policy.rules["phone"] == Rule("allow", 0.7)
    assert policy.rules["card"] == load_policy().rules["card"]
    assert policy.blocklist == tmp_path / "list.txt"


def test_a_least_score_may_be_anything_from_0_to_1(tmp_path: Path) -> None:
    """Both ends included."""
    for score in (0, 1, 1.0):
        file = write(tmp_path, f'[categories]\nemail = {{ action = "block", min_score = {score} }}\n')
        assert load_policy(file).rules["email"] == Rule("block", float(score))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[categories]\nemial = "block"\n', "unknown category 'emial'; known are blocklist, card, email"),
        ('[categories]\nemail = "hide"\n', "email: unknown action 'hide'; known are allow, redact, block"),
        ("[categories]\nemail = 3\n", "categories.email must be an action"),
        ('[categories]\nemail = { action = "block", score = 1 }\n', "categories.email must be an action"),
        ('[categories]\nemail = { action = "block", min_score = 2 }\n', "min_score is 2"),
        ('[categories]\nemail = { action = "block", min_score = true }\n', "min_score is True"),
        ("categories = 3\n", "categories must be a table"),
        ("blocklist = 3\n", "blocklist must be the path"),
        ('rules = "x"\n', "unknown key rules"),
        ("[categories\n", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the key and what it may be."""
    with pytest.raises(ConfigurationError) as caught:
        load_policy(write(tmp_path, text))
    assert message in str(caught.value)
    assert "policy.toml" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A policy that was asked for and cannot be read never falls back to another."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_policy(tmp_path / "none.toml")


def test_the_documented_policy_is_valid(tmp_path: Path) -> None:
    """The example of docs/moderation.md can be copied."""
    page = (Path(__file__).parents[3] / "docs" / "moderation.md").read_text(encoding="utf-8")
    policy = load_policy(write(tmp_path, page.split("```toml\n")[1].split("```")[0]))
    assert policy.rules["phone"] == Rule("redact", 0.6)
    entries = page.split("```text\n")[1].split("```")[0].splitlines()
    assert len(BlocklistDetector(entries).detect(["Project Falcon and falcon-12"])[0]) == 2
