""""""

from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.blocklist import BlocklistDetector
from headrace_workers.features.moderation.guard import CATEGORY as UNSAFE
from headrace_workers.features.moderation.head_training import LEARNT
from headrace_workers.features.moderation.leak import CATEGORY as LEAK
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.policy import Rule
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.profanity import ProfanityDetector
from headrace_workers.features.moderation.secrets import SecretsDetector


def write(path: Path, text: str) -> Path:
    file = path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_default_policy_has_a_rule_for_every_category() -> None:
    detectors = (PersonalDataDetector, SecretsDetector, ProfanityDetector, BlocklistDetector)
    assert load_policy().rules.keys() == frozenset(LEARNT).union({LEAK, UNSAFE}, *(d.categories for d in detectors))


def test_default_policy_redacts_data_and_masks_insults() -> None:
    """Personal data, secrets and insults are cut out; only listed terms and leaks withhold the answer."""
    rules = load_policy().rules
    assert {rules[name].action for name in ("email", "card", "phone", "iban", "secret")} == {"redact"}
    assert rules["profanity"] == Rule("redact", 0.9)
    assert {name for name, rule in rules.items() if rule.action == "block"} == {"blocklist", "system_prompt_leak"}


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    text = 'blocklist = "list.txt"\n[categories]\nemail = "block"\nphone = { action = "allow", min_score = 0.7 }\n'
    policy = load_policy(write(tmp_path, text))
    assert policy.rules["email"] == Rule("block")
    assert policy.rules["phone"] == Rule("allow", 0.7)
    assert policy.rules["card"] == load_policy().rules["card"]
    assert policy.blocklists == (tmp_path / "list.txt",)


def test_a_least_score_may_be_anything_from_0_to_1(tmp_path: Path) -> None:
    for score in (0, 1, 1.0):
        file = write(tmp_path, f'[categories]\nemail = {{ action = "block", min_score = {score} }}\n')
        assert load_policy(file).rules["email"] == Rule("block", float(score))


def test_what_is_to_be_made_again_is_to_be_blocked_in_the_end(tmp_path: Path) -> None:
    text = '[categories]\nemail = { action = "regenerate", min_score = 0.5 }\n[allow]\nemail = ["a@b.example"]\n'
    policy = load_policy(write(tmp_path, text))
    assert policy.rules["email"] == Rule("block", 0.5, allowed=("a@b.example",), again=True)
    assert policy.version != load_policy(write(tmp_path, text.replace("regenerate", "block"))).version


def test_a_policy_says_whose_prompts_are_screened(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, "screen = true\n[tenants.shop]\nscreen = false\n[tenants.mill]\n"))
    assert [policy.of(tenant).screen for tenant in (None, "other", "shop", "mill")] == [True, True, False, True]
    assert policy.version == policy.of("mill").version != policy.of("shop").version == load_policy().version
    assert not load_policy().screen


def test_a_policy_says_whose_system_prompts_are_trusted(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, "screen = true\n[tenants.shop]\ntrust_system = true\n"))
    assert [policy.of(tenant).trust_system for tenant in (None, "shop")] == [False, True]
    assert policy.version != policy.of("shop").version
    assert not load_policy().trust_system


def test_a_policy_says_whose_system_prompts_are_looked_for(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, "canary = true\nverbatim = 20\n[tenants.shop]\nverbatim = 0\n"))
    assert [(row.canary, row.verbatim) for row in (policy, policy.of("shop"))] == [(True, 20), (True, None)]
    assert len({policy.version, policy.of("shop").version, load_policy().version}) == 3
    assert (load_policy().canary, load_policy().verbatim) == (False, None)


SHAPE = 'must be an action, or { action = "…", min_score = 0.0 to 1.0, detectors = 1 to 9 }'
KEYS = "allow, blocklist, canary, categories, detectors, head, screen, tenants, trust_system, verbatim"
KNOWN = ", ".join(sorted(load_policy().rules))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[categories]\nemial = "block"\n', f", line 2: categories.emial: unknown category 'emial'; known are {KNOWN}"),
        (
            '[categories]\nemail = "hide"\n',
            ", line 2: categories.email: unknown action 'hide'; known are allow, redact, review, block, regenerate",
        ),
        ("[categories]\nemail = 3\n", f", line 2: categories.email: {SHAPE}"),
        ('[categories]\nemail = { action = "block", score = 1 }\n', f", line 2: categories.email: {SHAPE}"),
        (
            '[categories]\nemail = { action = "block", min_score = 2 }\n',
            ", line 2: categories.email: min_score is 2, but must be a number from 0 to 1",
        ),
        ("categories = 3\n", ", line 1: categories: must be a table"),
        (
            "verbatim = 19\n",
            ", line 1: verbatim: is 19, but must be a number of characters from 20 to 10000, or 0 for none",
        ),
        ("[tenants.shop]\nscreen = 1\n", ", line 2: tenants.shop.screen: is 1, but must be true or false"),
        ("blocklist = 3\n", ", line 1: blocklist: must be a path"),
        (
            'rules = "x"\nall = 1\n',
            f", line 1: rules: unknown key; known are {KEYS}",
        ),
        (
            '[categories]\nemail = { action = "block", detectors = 10 }\n',
            ", line 2: categories.email: detectors is 10, but must be a whole number from 1 to 9",
        ),
        ('\n[allow]\nemail = "a"\n', ", line 3: allow.email: must be a list of texts that are let be"),
        ('[allow]\nemial = ["a"]\n', f", line 2: allow.emial: unknown category 'emial'; known are {KNOWN}"),
        (
            '[allow]\nemail = ["ok", "a*b"]\n',
            ", line 2: allow.email: 'a*b' must be a text, with one * at its beginning or at its end if any",
        ),
        (
            '[allow]\nemail = ["' + "a" * 501 + '"]\n',
            ", line 2: allow.email: an entry has 501 characters; at most 500 are taken",
        ),
        (
            f"[allow]\nemail = {['a'] * 1_001}\n",
            ", line 2: allow.email: has 1001 entries; at most 1000 are taken",
        ),
        ('[tenants."a b"]\n', ", line 1: tenants.a b: this is no tenant's name"),
        (
            '[categories]\nemail = "allow"\n[tenants.shop.categories]\nphone = "allow"\nemail = "no"\n',
            ", line 5: tenants.shop.categories.email: unknown action 'no'; known are allow, redact, review, block, "
            "regenerate",
        ),
        (
            "[tenants.shop]\ntenants = {}\n",
            ", line 2: tenants.shop.tenants: unknown key; known are "
            "allow, blocklist, canary, categories, screen, trust_system, verbatim",
        ),
        ("[categories\n", " is no TOML: Expected ']' at the end of a table declaration (at line 1, column 12)"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_policy(write(tmp_path, text))
    assert str(caught.value) == f"moderation policy {tmp_path / 'policy.toml'}{message}"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A policy in another encoding than UTF-8 is refused with its name, and not guessed at."""
    (tmp_path / "policy.toml").write_bytes(b'blocklist = "\xfc"')
    with pytest.raises(ConfigurationError, match=r"policy\.toml cannot be read"):
        load_policy(tmp_path / "policy.toml")


def test_a_file_that_names_nothing_changes_nothing(tmp_path: Path) -> None:
    assert load_policy(write(tmp_path, "")) == load_policy()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_policy(tmp_path / "none.toml")


def test_the_documented_policy_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "reference" / "moderation-policy.md").read_text(encoding="utf-8")
    policy = load_policy(write(tmp_path, page.split("```toml\n")[1].split("```")[0]))
    assert policy.rules["phone"] == Rule("redact", 0.6)
    entries = page.split("```text\n")[1].split("```")[0].splitlines()
    assert len(BlocklistDetector(entries).detect(["Project Falcon and falcon-12"])[0]) == 2


def test_a_tenant_says_only_where_it_differs(tmp_path: Path) -> None:
    text = """
blocklist = "all.txt"
categories.email = "block"
allow.email = ["*@example.com"]
[tenants.shop]
blocklist = "shop.txt"
categories.phone = "review"
allow.email = ["ann@shop.example"]
"""
    policy = load_policy(write(tmp_path, text))
    shop = policy.of("shop")
    assert (policy.of("mill"), policy.of(None)) == (policy, policy)
    assert shop.rules["email"] == Rule("block", allowed=("*@example.com", "ann@shop.example"))
    assert (shop.rules["phone"], policy.rules["phone"]) == (Rule("review"), Rule("redact"))
    assert shop.blocklists == (tmp_path / "all.txt", tmp_path / "shop.txt")
    assert shop.version != policy.version


def test_what_is_let_be_is_a_text_whatever_its_case() -> None:
    rule = Rule("redact", allowed=("Ann@Example.com", "*@shop.example", "info@*"))
    assert all(map(rule.allows, ("ann@example.COM", "bob@shop.example", "INFO@x.y")))
    assert not any(map(rule.allows, ("ann@example.com.evil", "bob@shop.example.evil", "xinfo@x", "")))


def test_more_tenants_than_are_taken(tmp_path: Path) -> None:
    text = "".join(f"[tenants.t{n}]\n" for n in range(1_001))
    with pytest.raises(ConfigurationError, match="there are 1001; at most 1000 are taken"):
        load_policy(write(tmp_path, text))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at most 1000000 are taken"):
        load_policy(write(tmp_path, "#" * 1_000_001))
