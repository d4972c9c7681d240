import pytest
from tests.workers.features.moderation.test_moderator import Fake, each

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.detector import Detection, Detector, Moderation
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.policy import Policy, Rule

TWO = Policy({"hate": Rule("block", 0.5, detectors=2), "email": Rule("redact", allowed=("ee", "*x"))})


def moderated(text: str, *detectors: Detector, policy: Policy = TWO) -> Moderation:
    (verdict,) = PolicyModerator(detectors, policy).moderate([text])
    assert isinstance(verdict, Moderation)
    return verdict


def span(start: int, end: int, score: float = 1.0) -> Fake:
    return Fake(lambda text: [Detection("hate", score, start, end)], "hate", name=f"d{start}_{end}")


def test_one_detectors_word_is_not_enough() -> None:
    apart = moderated("abcdefgh", span(0, 3), span(3, 5))
    assert (apart.action, [f.action for f in apart.findings]) == ("allow", ["allow", "allow"])
    assert apart.verdict.categories == {"hate": False}
    assert apart.verdict.category_scores == {"hate": 1.0}
    assert moderated("abcdefgh", span(0, 4), span(3, 5)).action == "block"
    assert moderated("abcdefgh", span(0, 4), span(3, 5, 0.4)).action == "allow"


def test_the_same_detector_twice_is_one() -> None:
    twice = Fake(lambda text: [Detection("hate", 1.0, 0, 3), Detection("hate", 1.0, 1, 2)], "hate", name="one")
    assert moderated("abcdefgh", twice, span(5, 6)).action == "allow"


def test_spans_agree_by_way_of_others() -> None:
    assert moderated("abcdefgh", span(0, 3), span(2, 6), span(5, 7)).action == "block"
    three = Policy({"hate": Rule("block", detectors=3)})
    assert moderated("abcdefgh", span(0, 3), span(2, 6), span(5, 7), policy=three).action == "block"
    assert moderated("abcdefgh", span(0, 3), span(2, 6), span(6, 7), policy=three).action == "allow"
    assert moderated("abcdefgh", span(0, 6), span(1, 2), span(5, 7), policy=three).action == "block"


def test_a_rule_that_could_never_act_is_refused() -> None:
    """More detectors than there are would leave a category unguarded, and look as if it were."""
    with pytest.raises(ConfigurationError, match="wants 2 detectors to agree on hate, and there is only d0_1 that"):
        PolicyModerator([span(0, 1)], TWO)


def test_what_is_let_be_is_listed_and_stays() -> None:
    runs = Fake(lambda text: [Detection("email", 1.0, i, i + 2) for i in range(0, len(text), 2)])
    verdict = moderated("eeEEcxcc", runs)
    assert verdict.text == "eeEEcx[EMAIL]"
    assert [f.action for f in verdict.findings] == ["allow", "allow", "allow", "redact"]


def test_one_redacted_beside_one_to_review() -> None:
    """The stricter action decides, and what a person would let pass is redacted already."""
    policy = Policy({"email": Rule("redact"), "hate": Rule("review")})
    verdict = moderated("ea", Fake(each("e", "email")), Fake(each("a", "hate"), "hate", name="h"), policy=policy)
    assert (verdict.action, verdict.text, verdict.verdict.flagged) == ("review", "[EMAIL]a", True)


def test_each_text_is_decided_by_its_tenants_policy() -> None:
    policy = Policy({"email": Rule("redact")}, tenants={"shop": Policy({"email": Rule("block")})})
    detector = Fake(each("e", "email"))
    verdicts = PolicyModerator([detector], policy).moderate(["e", "e", "e"], ["mill", "shop", "default"])
    assert [v.action for v in verdicts if isinstance(v, Moderation)] == ["redact", "block", "redact"]
    assert detector.calls == [3]
    assert len({v.verdict.policy for v in verdicts if isinstance(v, Moderation)}) == 2


def test_a_tenants_list_looks_at_its_texts_alone() -> None:
    policy = Policy({"blocklist": Rule("block")}, tenants={"shop": Policy({"blocklist": Rule("redact")})})
    lists: dict[str | None, Detector] = {
        "shop": Fake(each("s", "blocklist"), "blocklist", name="blocklist"),
        None: Fake(each("a", "blocklist"), "blocklist", name="blocklist"),
    }
    texts = ["s", "a", "s", "a", "s\u200ba"]
    verdicts = PolicyModerator([], policy, lists).moderate(texts, ["shop", "shop", "mill", "mill", "shop"])
    shown = [v.text for v in verdicts if isinstance(v, Moderation)]
    assert shown == ["[BLOCKLIST]", "a", "s", None, "[BLOCKLIST]\u200ba"]
