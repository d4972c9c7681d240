"""What a probe says of judges that are known: a perfect one, one that likes what comes first, one that likes length."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.workers.features.judging.judge_model import JudgeModel, Prompt

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.judging import commands
from headrace_workers.features.judging.judge_probe import ITEMS, Probe, probe
from headrace_workers.models.engines import load_generator
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.verifiers.measured import refuse_untrusted
from headrace_workers.stats.estimates import Undefined

GOOD = {item.good for item in ITEMS}
OWN = "I think that it depends."


def text_in(prompt: Prompt, tag: str) -> str:
    match = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt[-1].content, re.DOTALL)
    return "" if match is None else match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def judged(value: Callable[[Prompt], float]) -> Probe:
    """The probe of a model whose P(first), P(yes) or digit is this value."""

    def answer(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...]:
        p = value(prompt)
        if choices == ("A", "B"):
            return (p, 1 - p)
        if len(choices) == 4:
            return (p, 0.0, 1 - p, 0.0)
        return (1 - p, 0.0, 0.0, 0.0, p)

    return probe(Author(answer))


class Author(JudgeModel):
    """One that answers, too: to each question with the same."""

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        return [Completion(OWN, "stop", 1, 1) for _ in requests]


def right(prompt: Prompt) -> float:
    """A judge that knows, and counts nothing else."""
    if first := text_in(prompt, "A"):
        good = [any(text.startswith(name) for name in GOOD) for text in (first, text_in(prompt, "B"))]
        return 0.5 + 0.4 * (good[0] - good[1])
    return 0.9 if text_in(prompt, "output") in GOOD else 0.1


def names(found: Probe, holds: bool) -> set[str]:
    return {measure.name.partition(":")[2].strip() for measure in found.measures if measure.holds is holds}


def test_a_judge_that_knows_has_nothing_against_it() -> None:
    found = judged(right)
    assert names(found, False) == set()
    assert (found.unanswered, found.mass) == (0, 1.0)
    assert found.asked == 11 * len(ITEMS)


def test_a_judge_that_likes_what_comes_first_is_found_out() -> None:
    found = judged(lambda prompt: 0.8 if text_in(prompt, "A") else right(prompt))
    assert names(found, False) == {
        "the right one in both orders", "another verdict in the other order", "the first preferred",
    }  # fmt: skip


def test_a_judge_that_likes_length_is_found_out() -> None:
    def longer(prompt: Prompt) -> float:
        first, second = text_in(prompt, "A"), text_in(prompt, "B")
        return 0.9 if len(first) > len(second) + 20 else 0.1 if len(second) > len(first) + 20 else right(prompt)

    assert names(judged(longer), False) == {"the longer preferred"}


def test_a_judge_that_likes_its_own_is_found_out() -> None:
    """Also where a right answer of somebody else's stands beside it."""

    def own(prompt: Prompt) -> float:
        return 0.9 if text_in(prompt, "A") == OWN else 0.1 if text_in(prompt, "B") == OWN else right(prompt)

    assert names(judged(own), False) == {"its own preferred"}


def test_a_judge_without_an_answer_of_its_own_prefers_none() -> None:
    """What it could not write is compared with nothing."""

    class Silent(Author):
        def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
            return [HeadraceError("no") for _ in requests]

    found = probe(Silent(lambda _prompt, choices: (1 / len(choices),) * len(choices)))
    (own,) = [measure for measure in found.measures if measure.name == "a right answer and its own: its own preferred"]
    assert (own.holds, own.found.reason) == (None, "it wrote no answer of its own")


def test_a_judge_that_does_not_answer_is_no_judge() -> None:
    found = probe(Author(lambda _prompt, choices: (0.0,) * len(choices)))
    assert (found.unanswered, found.mass) == (found.asked, None)
    assert {measure.holds for measure in found.measures} == {None}
    assert {measure.found.reason for measure in found.measures} == {"it answered none of these"}


def test_a_judge_that_sees_no_difference_is_told_so() -> None:
    found = probe(Author(lambda _prompt, choices: (1 / len(choices),) * len(choices)))
    reasons = {measure.name: measure.found.reason for measure in found.measures if isinstance(measure.found, Undefined)}
    assert reasons == {
        "the same answer, padded: the longer preferred": "it preferred neither of any two",
        "a right answer and its own: its own preferred": "it preferred neither of any two",
    }


def test_why_a_judge_does_not_answer_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    broken = Author(lambda _prompt, _choices: HeadraceError("the prompt has 300 tokens, and the model reads 128"))
    for module in (commands, load_generator):
        monkeypatch.setattr(module, "load_generator", lambda _home, _alias, **_options: broken)
    commands.probe(model="small")
    told = capsys.readouterr()
    assert "there are no rows" not in told.out
    assert "the model reads 128" in told.err
    assert "probe another with --model" in told.err
    with pytest.raises(ConfigurationError, match="the model reads 128"):
        refuse_untrusted(tmp_path, "small")


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.question)
def test_a_bad_answer_is_about_as_long_as_the_good_one(item) -> None:
    """Else the probe of knowledge would be one of length."""
    assert abs(len(item.good) - len(item.bad)) <= 20
    assert len(item.padding) > 50
