import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from tests.services.eventually import eventually

from headrace_schemas import Category, Finding, HeadraceError, ModerationVerdict
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.features.moderation.detector import (
    MAX_DETECTIONS,
    MAX_FINDINGS,
    Detection,
    Instructions,
    Moderation,
)
from headrace_workers.features.moderation.moderator import BoundedModerator, PolicyModerator, build_moderator, warm_up
from headrace_workers.features.moderation.policy import Policy, Rule


class Fake:
    def __init__(self, find: Callable[[str], list[Detection]], *categories: str, name: str = "fake") -> None:
        self.name = name
        self.version = "1"
        self.reads_words = True
        self.categories = frozenset(categories or ("email",))
        self.calls: list[int] = []
        self._find = find

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        self.calls.append(len(texts))
        return [self._find(text) for text in texts]


def each(letter: str, category: str, score: float = 1.0) -> Callable[[str], list[Detection]]:
    return lambda text: [Detection(category, score, i, i + 1) for i, c in enumerate(text) if c == letter]


POLICY = Policy({"email": Rule("redact"), "phone": Rule("allow"), "profanity": Rule("block", 0.9)})


def one(text: str, *detectors: Fake) -> Moderation:
    (verdict,) = PolicyModerator(detectors, POLICY).moderate([text])
    assert isinstance(verdict, Moderation)
    return verdict


def plain(verdict: Moderation) -> tuple[str | None, tuple[Finding, ...], str]:
    return verdict.text, verdict.findings, verdict.action


def test_the_strictest_action_wins() -> None:
    detectors = (Fake(each("e", "email")), Fake(each("p", "phone"), "phone"), Fake(each("b", "profanity"), "profanity"))
    assert plain(one("xyz", *detectors)) == ("xyz", (), "allow")
    assert (one("xp", *detectors).action, one("xp", *detectors).text) == ("allow", "xp")
    assert (one("pxe", *detectors).action, one("pxe", *detectors).text) == ("redact", "px[EMAIL]")
    blocked = one("bep", *detectors)
    assert (blocked.action, blocked.text) == ("block", None)
    assert [(f.category, f.action) for f in blocked.findings] == [
        ("profanity", "block"),
        ("email", "redact"),
        ("phone", "allow"),
    ]


def test_findings_below_the_least_score_are_dropped() -> None:
    assert one("b", Fake(each("b", "profanity", 0.89), "profanity")).action == "allow"
    assert one("b", Fake(each("b", "profanity", 0.9), "profanity")).action == "block"


def test_a_failing_text_is_held_alone(caplog: pytest.LogCaptureFixture) -> None:
    def find(text: str) -> list[Detection]:
        if "secret" in text:
            raise RuntimeError(f"cannot read {text}")
        return each("e", "email")(text)

    verdicts = PolicyModerator([Fake(find)], POLICY).moderate(["e", "my secret", "x"])
    assert verdicts[0] == one("e", Fake(find))
    assert verdicts[2] == one("x", Fake(find))
    error = verdicts[1]
    assert isinstance(error, HeadraceError)
    assert error.category is Category.TRANSIENT
    assert str(error) == "moderation detector fake failed (RuntimeError); the output is held"
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        [Detection("email", 1.0, 0, 99)],
        [Detection("email", 1.0, -1, 1)],
        [Detection("email", 1.0, 1, 1)],
        [Detection("email", float("nan"), 0, 1)],
        [Detection("phone", 1.0, 0, 1)],
        None,
    ],
)
def test_a_nonsensical_answer_holds_the_text(answer: list[Detection]) -> None:
    (verdict,) = PolicyModerator([Fake(lambda text: answer)], POLICY).moderate(["text"])
    assert isinstance(verdict, HeadraceError)


def test_too_few_answers_hold_every_text() -> None:
    class Short(Fake):
        def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
            return []

    verdicts = PolicyModerator([Short(each("e", "email"))], POLICY).moderate(["a", "b"])
    assert all(isinstance(verdict, HeadraceError) for verdict in verdicts)


def test_more_findings_than_can_be_listed_block() -> None:
    assert one("e" * MAX_FINDINGS, Fake(each("e", "email"))).action == "redact"
    verdict = one("e" * (MAX_FINDINGS + 1), Fake(each("e", "email")))
    assert (verdict.action, verdict.text, len(verdict.findings)) == ("block", None, MAX_FINDINGS)


def test_allowed_findings_make_room_for_stricter_ones() -> None:
    detectors = Fake(each("p", "phone"), "phone"), Fake(each("e", "email"))
    verdict = one("p" * (2 * MAX_FINDINGS) + "e", *detectors)
    assert verdict.action == "redact"
    assert len(verdict.findings) == MAX_FINDINGS
    assert sum(f.category == "email" for f in verdict.findings) == 1


def test_a_detector_that_stopped_early_blocks() -> None:
    verdict = one("b" * MAX_DETECTIONS, Fake(each("b", "profanity", 0.6), "profanity"))
    assert verdict.action == "block"


@pytest.mark.parametrize(("longer", "action"), [(0, "redact"), (1, "block")])
def test_a_text_may_grow_up_to_the_bound(longer: int, action: str) -> None:
    text = "e" + "x" * (MAX_TEXT - len("[EMAIL]") + longer)
    assert one(text, Fake(each("e", "email"))).action == action


def test_a_finding_says_what_was_found_where_by_whom() -> None:
    def find(text: str) -> list[Detection]:
        return [Detection("phone", 0.0, 2, 3), Detection("email", 1.0, 0, len(text)), Detection("phone", 0.5, 0, 1)]

    verdict = one("abc", Fake(find, "phone", "email", name="finder"))
    assert verdict.findings == (
        Finding(category="phone", detector="finder", score=0.5, start=0, end=1, action="allow"),
        Finding(category="email", detector="finder", score=1.0, start=0, end=3, action="redact"),
        Finding(category="phone", detector="finder", score=0.0, start=2, end=3, action="allow"),
    )
    assert (verdict.text, verdict.action) == ("[EMAIL]", "redact")


def test_warming_up_loads_what_every_detector_needs() -> None:
    moderator = build_moderator()
    warm_up(moderator)
    loaded = {detector.name: vars(detector).keys() for detector in moderator._detectors}
    assert {name for name, found in loaded.items() if {"_rules", "_model"} & found} == {
        "personal_data", "secrets", "profanity",
    }  # fmt: skip


def test_a_policy_without_a_rule_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^the moderation policy has no rule for iban, which fake reports$"):
        PolicyModerator([Fake(each("e", "iban"), "iban")], POLICY)


def test_one_call_a_detector() -> None:
    detector = Fake(each("e", "email"))
    PolicyModerator([detector], POLICY).moderate(["a", "b", "c"])
    assert detector.calls == [3]


@pytest.mark.parametrize(
    "hidden",
    ["\u200b", "\u00ad", "\u2060\u200d", "\ufeff", "\U000e0041", "\u202e"],
    ids=["zero width space", "soft hyphen", "two joiners", "byte order mark", "tag", "override"],
)
def test_invisible_characters_hide_nothing(moderator: PolicyModerator, hidden: str) -> None:
    key, address = "AKIA" + "IOSFODNN7EXAMPLE", "jo@headrace.io"
    for secret, label in ((key, "[SECRET]"), (address, "[EMAIL]")):
        (verdict,) = moderator.moderate([f"a{hidden} b: {hidden.join(secret)}, end{hidden}"])
        assert isinstance(verdict, Moderation)
        assert verdict.text == f"a{hidden} b: {label}, end{hidden}"
    (insult,) = moderator.moderate([f"You are an {hidden.join('idiot')}."])
    assert isinstance(insult, Moderation)
    assert (insult.action, insult.text) == ("redact", "You are an [PROFANITY].")


def test_what_invisible_characters_part_is_found_as_well() -> None:
    detector = Fake(lambda text: [Detection("email", 1.0, m.start(), m.end()) for m in re.finditer(r"\bev\b", text)])
    verdict = one("ev\u200bxy, e\u200bv, ev", detector)
    assert verdict.text == "[EMAIL]\u200bxy, [EMAIL], [EMAIL]"
    assert [(f.start, f.end) for f in verdict.findings] == [(0, 2), (7, 10), (12, 14)]


def test_the_default_moderator(moderator: PolicyModerator) -> None:
    texts = [
        "Nothing to see here.",
        "Write to jo@headrace.io; card 4111 1111 1111 1111.",
        "You are an idiot.",
        "Key AKIA" + "IOSFODNN7EXAMPLE leaked.",
    ]
    verdicts = [v for v in moderator.moderate(texts) if isinstance(v, Moderation)]
    assert [v.text for v in verdicts] == [
        texts[0],
        "Write to [EMAIL]; card [CARD].",
        "You are an [PROFANITY].",
        "Key [SECRET] leaked.",
    ]
    assert [v.action for v in verdicts] == ["allow", "redact", "redact", "redact"]
    assert moderator.moderate([]) == []


def test_build_moderator_reads_policy_and_blocklist(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("falcon\n")
    (tmp_path / "policy.toml").write_text('blocklist = "list.txt"\n[categories]\nblocklist = "redact"\n')
    (verdict,) = build_moderator(tmp_path / "policy.toml").moderate(["Project Falcon"])
    assert isinstance(verdict, Moderation)
    assert verdict.text == "Project [BLOCKLIST]"


def test_a_missing_blocklist_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('blocklist = "none.txt"\n')
    with pytest.raises(ConfigurationError, match="cannot be read"):
        build_moderator(tmp_path / "policy.toml")


def test_warm_up_tells_what_does_not_work() -> None:
    def find(text: str) -> list[Detection]:
        raise ImportError("no module")

    with pytest.raises(HeadraceError, match="fake failed"):
        warm_up(PolicyModerator([Fake(find)], POLICY))


WELL = Moderation("ok", ModerationVerdict(action="allow"))


class Hanging:
    """Comes to no end about texts that say so, until it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.hangs = threading.Event()
        self.asked: list[tuple[str, ...]] = []
        self.threads: set[int] = set()

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        self.asked.append(
            (*texts, *(tenants or ()), *(instruction.system for instruction in instructions or () if instruction))
        )
        self.threads.add(threading.get_ident())
        if "hang" in texts:
            self.hangs.set()
            self.let.wait()
        if "raise" in texts:
            raise TimeoutError("no")
        return [WELL for _ in texts]

    def ends(self, answer: "Future[list[Moderation | HeadraceError]]", _seconds: float) -> bool:
        """Wait until there is an answer, or one hangs: the time is up then."""
        eventually(lambda: answer.done() or self.hangs.is_set())
        self.hangs.clear()
        return answer.done()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    inner = Hanging()
    yield inner
    inner.let.set()


def test_who_does_not_hang_is_asked_once(hanging: Hanging) -> None:
    bounded = BoundedModerator(hanging, 60.0)
    assert bounded.moderate(["a", "b"], ["s", "t"]) == [WELL, WELL]
    with pytest.raises(TimeoutError, match="no"):
        bounded.moderate(["raise"])
    assert bounded.moderate(["c"]) == [WELL]
    assert hanging.asked == [("a", "b", "s", "t"), ("raise",), ("c",)]
    assert len(hanging.threads) == 1
    assert threading.get_ident() not in hanging.threads


def test_what_hangs_is_held_alone(hanging: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    verdicts = BoundedModerator(hanging, 0.02, hanging.ends).moderate(
        ["a", "hang", "b"], ["s", "t", "u"], [None, Instructions("v"), Instructions("w")]
    )
    assert [verdicts[0], verdicts[2]] == [WELL, WELL]
    assert str(verdicts[1]) == "moderation came to no end within 0.02 s; it is held"
    assert hanging.asked[1:] == [("a", "s"), ("hang", "t", "v"), ("b", "u", "w")]
    assert {record.action for record in caplog.records} == {"detector_hangs"}


def test_no_more_threads_hang_than_a_few_and_it_recovers(hanging: Hanging) -> None:
    bounded = BoundedModerator(hanging, 0.02, hanging.ends)
    for _ in range(5):
        bounded.moderate(["hang"])
    assert len(hanging.asked) == 4
    assert isinstance(bounded.moderate(["a"])[0], HeadraceError)
    hanging.let.set()
    eventually(lambda: bounded.moderate(["a"]) == [WELL])
    assert bounded.moderate(["a", "hang"]) == [WELL, WELL]
    assert len(hanging.threads) == 4
