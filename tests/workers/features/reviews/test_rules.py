import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.workers.features.reviews.rows import job_id, receipt

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.review import ReviewRule
from headrace_workers.features.judging import scores
from headrace_workers.features.reviews.rules import MAX_FILE_BYTES, ReviewRules, drawn, parse_rules, rule_of, text_of

FILE = """
lease = "20m"
people = 2

[[rules]]
name = "low"
share = 0.5
below = { criterion = "helpful", value = 0.5 }

[[rules]]
name = "audit"
share = 0.05
people = 1

[tenants.acme]
training = false
"""


def rule(**fields: Any) -> ReviewRule:
    return ReviewRule.model_validate({"name": "r"} | fields)


def first(rules: list[ReviewRule], told: dict[str, Any], tenant: str = "a") -> str | None:
    review_rule = rule_of(rules, tenant, told)
    return None if review_rule is None else review_rule.name


def test_a_file_says_what_holds_for_all_items_and_for_a_tenant() -> None:
    rules = parse_rules(FILE.encode(), "reviews.toml")
    assert (rules.lease_ms, rules.most_open) == (1_200_000, 10_000)
    assert [rules.people_of(review_rule) for review_rule in rules.rules] == [2, 1]
    assert [rules.may_train(tenant) for tenant in ("acme", "others")] == [False, True]
    assert ReviewRules.from_json(rules.to_json()) == rules
    assert [ReviewRules.from_json(rules.to_json()).people_of(review_rule) for review_rule in rules.rules] == [2, 1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("share = 0.05", "share = 5", "line 12: rules 2.share: must be at most 1"),
        ('"audit"', '"low"', "line 11: rules 2.name: is the name of a rule above"),
        ('"audit"', '"held"', "line 11: rules 2.name: held is the rule of held jobs"),
        ('"audit"', '"manual"', "line 11: rules 2.name: manual is the rule of answers that people send"),
        ("value = 0.5 }", "value = 0.5, over = 1 }", "line 8: rules 1.below.over: is no field"),
        ('"20m"', '"20 s"', "line 2: lease: '20 s' is not a duration"),
        ('"20m"', '"20s"', "line 2: lease: must be from 1m to 1d"),
        ("people = 2", "peple = 2", "line 3: peple: is no field"),
        ("[tenants.acme]", "[tenants.acme", "is no TOML"),
        ("share = 0.05", 'disagreement = { between = ["a"] }', "line 12: rules 2.disagreement.between"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_rules(FILE.replace(old, new).encode(), "reviews.toml")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#" * (MAX_FILE_BYTES + 1), "has more than 1,000,000 bytes"),
        (b'lease = "\xff"', "is not UTF-8: byte 10"),
        (b"a = " + b"[" * 100_000, "is no TOML"),
        (b"lease = " + b"{a=" * 300 + b"1" + b"}" * 300, "nested"),
    ],
)
def test_a_file_that_is_no_file_of_rules_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "reviews.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        parse_rules(text_of(file, required=True), str(file))
    assert words in str(refused.value)


def test_a_missing_file_is_refused_only_if_it_was_named(tmp_path: Path) -> None:
    assert parse_rules(text_of(tmp_path / "reviews.toml", required=False), "reviews.toml") == ReviewRules()
    for path, required in ((tmp_path / "reviews.toml", True), (tmp_path, False)):
        with pytest.raises(ConfigurationError, match="is no file"):
            text_of(path, required=required)


def test_an_answer_belongs_to_the_first_rule_whose_condition_it_meets() -> None:
    rules = [
        rule(name="acme", tenant="acme", below={"criterion": "good", "value": 1.0}),
        rule(name="low", below={"criterion": "good", "value": 0.5}),
        rule(name="split", disagreement={"between": ["good", "kind"], "by": 0.25}),
        rule(name="rest"),
    ]
    assert first(rules, receipt("j", {"good": 0.4})) == "low"
    assert first(rules, receipt("j", {"good": 0.5})) == "rest"
    assert first(rules, receipt("j", {"good": 0.5}), "acme") == "acme"
    assert first(rules, receipt("j", {"good": 0.5, "kind": 0.75})) == "split"
    assert first(rules, receipt("j", {"good": 0.6, "kind": 0.75})) == "rest"
    assert first(rules[:-1], receipt("j", {"good": 0.5})) is None


def test_a_judge_and_a_detector_disagree_by_what_was_objected_to() -> None:
    rules = [rule(disagreement={"between": ["harmless", "hate"]})]
    for value, flagged, name in ((0.9, True, "r"), (0.9, False, None), (0.2, False, "r"), (0.2, True, None)):
        told = receipt("j", {"harmless": value}, moderation={"categories": {"hate": flagged}})
        assert first(rules, told) == name


@pytest.mark.parametrize(
    "told",
    [
        receipt("j", {"good": None}),
        receipt("j", [("good", 0.1), ("good", 0.1)]),
        receipt("j", [("good", 0.1), ("good", None)]),
        {"job_id": "j", "kind": "evaluation"},
        receipt("j") | {"judge": None, "moderation": None},
    ],
)
def test_what_has_no_value_of_its_own_meets_no_condition(told: dict[str, Any]) -> None:
    rules = [
        rule(name="low", below={"criterion": "good", "value": 1}),
        rule(name="split", disagreement={"between": ["good", "good"]}),
    ]
    assert first(rules, told) is None


def test_a_rule_draws_its_share_whatever_other_rules_and_judges_draw() -> None:
    ids = [job_id(number) for number in range(20_000)]
    draws = {name: {text for text in ids if drawn(rule(name=name, share=0.3), text)} for name in ("low", "audit")}
    judged = {text for text in ids if scores.drawn(text, 0.3)}
    for found in draws.values():
        assert abs(len(found) / 20_000 - 0.3) < 0.01  # three standard errors
        assert abs(len(found & judged) / 20_000 - 0.09) < 0.0061
    assert abs(len(draws["low"] & draws["audit"]) / 20_000 - 0.09) < 0.0061
    smaller = {text for text in ids if drawn(rule(name="low", share=0.05), text)}
    assert smaller < draws["low"]
    assert all(drawn(rule(), text) for text in ids[:100])


def test_drawn_items_stand_in_a_random_order_behind_all_that_are_held() -> None:
    ranks = [stratum.rank for number in range(2_000) if (stratum := drawn(rule(share=0.5), job_id(number)))]
    assert all(2**61 <= rank < 2**62 for rank in ranks)  # a time in ms has 41 bits
    later = sum(one < other for one, other in itertools.pairwise(ranks))
    assert 0.4 < later / len(ranks) < 0.6
