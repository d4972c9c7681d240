import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from headrace_schemas import Message, Sampling
from headrace_schemas.errors import PromptTooLong
from headrace_workers.models.generator import Completion, GivenUp, LabelRequest, LabelScores, Request
from headrace_workers.testing import EchoGenerator


def ask(text: str, **sampling: object) -> Request:
    turns = (Message(role="system", content="be good"), Message(role="user", content=text))
    return Request(turns, Sampling.model_validate(sampling))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ask("one two three"), Completion("one two three", "stop", 5, 3)),
        (ask("one two three", max_tokens=2), Completion("one two", "length", 5, 2)),
        (ask("one two three", max_tokens=3), Completion("one two three", "stop", 5, 3)),
        (ask("one two three", stop=["two"]), Completion("one ", "stop", 5, 1)),
    ],
)
def test_it_repeats_the_last_user_message(request_: Request, expected: Completion) -> None:
    assert EchoGenerator().generate([request_]) == [expected]


def test_a_prompt_over_its_context_is_refused() -> None:
    too_long, fine = EchoGenerator(context_length=6).generate([ask("a b c d"), ask("a b c")])
    assert isinstance(too_long, PromptTooLong)
    assert fine == Completion("a", "length", 5, 1)


def test_probabilities_of_labels_repeat_themselves() -> None:
    """They hang on the prompt and the labels alone, and leave some mass to the rest."""
    requests = [LabelRequest((Message(role="user", content=text),), ("yes", "no")) for text in ("a", "b")]
    first, other = EchoGenerator().label_probabilities(requests)
    assert isinstance(first, LabelScores)
    assert EchoGenerator().label_probabilities(requests[:1]) == [first]
    assert sum(first.masses) == pytest.approx(0.9)
    assert first != other


def test_labels_must_differ() -> None:
    with pytest.raises(ValueError, match="the same"):
        EchoGenerator().label_probabilities([LabelRequest((), ("yes", "yes"))])


def test_it_sleeps_when_told_to() -> None:
    slept: list[float] = []
    EchoGenerator(sleep=slept.append).generate([ask("%%sleep:2.5%% please"), ask("100%% sure")])
    assert sum(slept) == 2.5
    held = replace(ask("%%sleep:2.5%% please"), given_up=lambda: sum(slept) > 3)
    (answer,) = EchoGenerator(sleep=slept.append).generate([held])
    assert isinstance(answer, GivenUp)
    assert 3 < sum(slept) < 4


def test_it_kills_its_process_when_told_to() -> None:
    code = (
        "from headrace_schemas import Message, Sampling\n"
        "from headrace_workers.models.generator import Request\n"
        "from headrace_workers.testing import EchoGenerator\n"
        "EchoGenerator().generate([Request((Message(role='user', content='now %%crash%%'),), Sampling())])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
