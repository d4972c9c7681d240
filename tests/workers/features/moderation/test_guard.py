from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError, PromptTooLong, Unavailable
from headrace_workers.features.moderation.detector import Moderation, NoAnswer
from headrace_workers.features.moderation.guard import GuardDetector
from headrace_workers.features.moderation.moderator import Aids, with_policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.models.engines.echo import EchoGenerator
from headrace_workers.models.generator import LabelRequest, LabelScores


class Guard(EchoGenerator):
    """Says unsafe of what has a bad word in it, with this probability, and remembers what it read."""

    def __init__(self, sure: float = 0.8) -> None:
        super().__init__("guard")
        self.sure, self.read = sure, list[str]()

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        return [self._say(request) for request in requests]

    def _say(self, request: LabelRequest) -> LabelScores | HeadraceError:
        assert (request.labels, request.whole) == (("safe", "unsafe"), False)
        (message,) = request.messages
        self.read.append(message.content)
        if "raise" in message.content:
            return Unavailable("no room")
        return LabelScores((0.1, self.sure if "bomb" in message.content else 0.05), 0, 0)


def test_the_score_is_the_probability_of_unsafe() -> None:
    """Not its share of both: a guard that says something else is sure of nothing. Nothing is asked of an empty text."""
    guard = Guard()
    found = GuardDetector(guard).detect(["a bomb", "", "a heron"])
    assert [
        [(detection.category, detection.score, detection.start, detection.end) for detection in own] for own in found
    ] == [
        [("unsafe", 0.8, 0, 6)], [], [("unsafe", 0.05, 0, 7)],
    ]  # fmt: skip
    assert guard.read == ["a bomb", "a heron"]
    assert GuardDetector(guard).detect([""]) == [[]]


@pytest.mark.parametrize("sure", [0.0, -0.1, float("nan")])
def test_a_guard_that_says_something_else_says_nothing(sure: float) -> None:
    class Mute(Guard):
        def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
            return [LabelScores((0.02, sure), 0, 0) for _ in requests]

    with pytest.raises(NoAnswer, match="the guard guard says neither safe nor unsafe"):
        GuardDetector(Mute()).detect(["a heron"])


def test_the_longest_text_is_read_in_parts() -> None:
    text = ("word " * 40_000)[:199_000] + " a bomb " + "x" * 992
    guard = Guard()
    (detections,) = GuardDetector(guard).detect([text])
    assert len(text) == 200_000
    assert all(len(part) <= 4_000 for part in guard.read)
    (sure,) = [detection for detection in detections if detection.score > 0.5]
    assert "bomb" in text[sure.start : sure.end]


class Narrow(Guard):
    """Holds so many characters, as the context of a model does in a dense script."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def _say(self, request: LabelRequest) -> LabelScores | HeadraceError:
        said = super()._say(request)
        return PromptTooLong("no room") if len(request.messages[0].content) > self.room else said


def test_a_part_that_does_not_fit_the_context_is_read_in_smaller_ones() -> None:
    """Each of its characters is read; where no part would be small enough, the text is held."""
    text = "山" * 5_000 + " a bomb " + "山" * 4_000
    (detections,) = GuardDetector(Narrow(1_250)).detect([text])
    assert (detections[0].start, detections[-1].end) == (0, len(text))
    assert all(a.end > b.start for a, b in pairwise(detections))
    (sure, *_) = [detection for detection in detections if detection.score > 0.5]
    assert "bomb" in text[sure.start : sure.end]
    assert sure.end - sure.start <= 1_250
    with pytest.raises(PromptTooLong):
        GuardDetector(Narrow(500)).detect([text])


def policy(folder: Path, text: str = '[detectors.guard]\nmodel = "guard"\n') -> Path:
    (folder / "policy.toml").write_text(text)
    return folder / "policy.toml"


def test_a_policy_names_it_and_reviews_what_it_finds(tmp_path: Path) -> None:
    """Unless that says otherwise. What the model cannot do holds the text that it is about, and no other."""
    asked: list[str] = []

    def load(alias: str) -> Guard:
        asked.append(alias)
        return Guard()

    moderator = with_policy([], load_policy(policy(tmp_path)), Aids(guard=load))
    bad, held, good = moderator.moderate(["a bomb", "raise", "a heron"])
    assert asked == ["guard"]
    assert isinstance(bad, Moderation)
    assert isinstance(good, Moderation)
    assert isinstance(held, HeadraceError)
    assert (bad.action, good.action) == ("review", "allow")
    assert bad.verdict.categories == {"unsafe": True}
    assert bad.verdict.detectors["guard"].endswith("+guard/none")


def test_where_there_is_no_model_the_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names the guard guard, and no model is loaded here"):
        with_policy([], load_policy(policy(tmp_path)))


def test_passages_are_looked_at_without_it(tmp_path: Path) -> None:
    text = '[detectors.guard]\nmodel = "guard"\n[detectors.openai]\nurl = "http://a"\nmodel = "m"\n[tenants.shop]\n'
    whole = load_policy(policy(tmp_path, 'blocklist = "list.txt"\n' + text))
    for row in (whole.of_passages, whole.of_passages.of("shop")):
        assert (row.guard, row.openai, row.blocklists, row.version) == (None, None, (), whole.version)
