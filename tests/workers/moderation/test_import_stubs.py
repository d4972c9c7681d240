"""What is left out of an import: nothing that is found depends on it, and nobody else meets the stand-in."""

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from headrace_workers.features.moderation.import_stubs import left_out

TEXTS = [
    "Write to jo@example.com or call +44 20 7946 0958 before 2026-01-31.",
    "Card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, host 192.168.4.20, release 1.2.3.4.",
    "SSN 536-90-4399, my social security number; ITIN 912-70-1234; NINO AB 12 34 56 C; phone (202) 555-0143.",
    "You are such an idiot, honestly.",
    "lodash@4.17.21 has 3 100 200 downloads.",
]
PROGRAM = """
import json, sys
if {first!r}:
    __import__({first!r})
from headrace_workers.features.moderation.moderator import build_moderator, warm_up
moderator = build_moderator()
warm_up(moderator)
verdicts = [(v.text, v.action, [f.model_dump() for f in v.findings]) for v in moderator.moderate({texts!r})]
names = {{each.partition(".")[0] for each in sys.modules}}
left = sorted(names & {{"spacy", "thinc", "presidio_analyzer", "sklearn", "scipy", "transformers", "torch"}})
{then}
print(json.dumps([verdicts, left]))
"""


def run(first: str = "", then: str = "") -> Any:
    """The verdicts of a new process about these texts, and which of the heavy packages it has imported."""
    program = PROGRAM.format(first=first, texts=TEXTS, then=then)
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(shown.stdout.splitlines()[-1])


@pytest.mark.slow
def test_moderation_finds_the_same_without_what_is_left_out() -> None:
    """As it does where Presidio was imported whole before: spaCy, scikit-learn and SciPy are no part of it."""
    verdicts, left = run()
    whole, beside = run(first="presidio_analyzer")
    assert verdicts == whole
    assert left == []
    assert "spacy" in beside
    assert {finding["category"] for _, _, findings in verdicts for finding in findings} == {
        "email", "phone", "card", "iban", "ip_address", "ssn", "itin", "nino", "profanity",
    }  # fmt: skip


@pytest.mark.slow
def test_whoever_imports_it_later_gets_it_whole() -> None:
    """Such as a detector of one's own that asks Presidio's engine, with a language model."""
    then = """
from presidio_analyzer.nlp_engine import SpacyNlpEngine
import presidio_analyzer.nlp_engine.spacy_nlp_engine as engine
assert engine.spacy.__version__ and engine.Language.__module__ == "spacy.language"
assert [(v.text, v.action) for v in moderator.moderate(["jo@example.com"])] == [("[EMAIL]", "redact")]
"""
    run(then=then)


def test_a_stand_in_is_gone_afterwards_also_when_the_import_fails() -> None:
    """And any name can be imported from it while it is there."""
    with pytest.raises(RuntimeError, match="broken"), left_out("no_such_package", optional=(), of="another"):
        use_it()
    assert not any(name.partition(".")[0] == "no_such_package" for name in sys.modules)
    with pytest.raises(ImportError):
        use_it()


def use_it() -> None:
    """As a module does that imports it: classes to inherit from, and decorators; then it fails."""
    inner = importlib.import_module("no_such_package.inner")

    @inner.registry.factory("x", default=1)
    class Mine(inner.Base):  # type: ignore[misc, name-defined]
        """Of a class that is not there."""

    raise RuntimeError("broken")
