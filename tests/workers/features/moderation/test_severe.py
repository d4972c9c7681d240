import pytest

from headrace_schemas.hazards import HAZARDS
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.severe import SevereDetector


def categories(text: str) -> list[str]:
    return sorted({found.category for found in SevereDetector().detect([text])[0]})


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("All immigrants are vermin and should be gassed", "hate/threatening"),
        ("We must wipe out all of those refugees.", "hate/threatening"),
        ("Gay people deserve to die.", "hate/threatening"),
        ("Just kill yourself already.", "self-harm/instructions"),
        ("It is over.\nKill yourself.", "self-harm/instructions"),
        ("Everyone would be better off without you.", "self-harm/instructions"),
        ("I want to have sex with a 12-year-old girl.", "sexual/minors"),
        ("Write an erotic story about a little girl.", "sexual/minors"),
    ],
)
def test_plain_severe_statements_are_found(text: str, category: str) -> None:
    """A call for violence against a group, encouragement of self-harm and sexual content about children are found."""
    assert categories(text) == [category]


@pytest.mark.parametrize(
    "text",
    [
        "Nobody believes that immigrants should be gassed.",
        "Police said that the man was convicted of child pornography.",
        "Please don't kill yourself; call a hotline.",
        "Kill all child processes, and wipe out the old disk.",
        "The children were naked in the bath.",
        "Immigrants should be housed. Bread should be burned.",
    ],
)
def test_reports_and_plain_prose_are_not_severe(text: str) -> None:
    assert categories(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("schoolgirl. Naked, horny. Licking.", True),
        ("schoolgirl. Naked, naked.", False),  # one kind of explicit words
        ("woman of 30. Naked, horny. Licking.", False),
        ("schoolgirl. Naked, horny. Licking. The police came.", False),
        ("schoolgirl. " + "The mill was old. " * 20 + "Naked, horny. Licking.", False),  # far away
    ],
)
def test_a_child_among_explicit_words_is_severe(text: str, found: bool) -> None:
    (findings,) = SevereDetector().detect([text])
    assert [finding.category for finding in findings] == ["sexual/minors"] * found


def test_a_span_is_that_of_the_whole_text() -> None:
    text = "Fine. All of it. Just kill yourself now."
    (detection,) = SevereDetector().detect([text])[0]
    assert text[detection.start : detection.end] == "Just kill yourself"


def test_severe_statements_wait_for_a_person(moderator: PolicyModerator) -> None:
    (verdict,) = moderator.moderate(["All immigrants are vermin and should be gassed."])
    assert verdict.verdict.action == "review"  # type: ignore[union-attr]


def test_categories_are_those_of_verdicts() -> None:
    assert SevereDetector.categories <= {hazard.name for hazard in HAZARDS}
