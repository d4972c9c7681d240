"""Commands in the documentation: each `headrace …` call names a command and options that exist."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest
from tests.docs.pages import blocks, inline_code, pages, read

from headrace_workers.wiring.command_line import all_commands

SHELL: Final = ("", "sh", "bash", "shell", "console", "text")
EVERYWHERE: Final = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})
EXAMPLES: Final = frozenset({"readability"})  # the command of the feature that a page adds as an example
_ENVIRONMENT: Final = r"(?:[A-Z][A-Z0-9_]*=(?:'[^']*'|\"[^\"]*\"|\S)*\s+)*"
_CALL: Final = re.compile(
    rf"(?:^|[|;&(]\s*|\$ |xargs )\s*{_ENVIRONMENT}(?:\S*/)?headrace[ \t]+(?P<words>.*)", re.MULTILINE
)
_END: Final = re.compile(r"\s(?:\||&&|;|#|>|2>|&$|<)|\)|[;…]")


def calls(text: str) -> Iterator[str]:
    """Yield what follows `headrace` in each call of a page."""
    for block in blocks(text):
        if block.language in SHELL:
            yield from _calls(block.text.replace("\\\n", " "))
    for code in inline_code(text):
        yield from _calls(code)


def _calls(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for part in re.split(r"\s\|\s|&&|;\s", line):
            if match := _CALL.match(part.strip()):
                yield _END.split(f"{match['words']} ", maxsplit=1)[0].strip()


def problem(call: str) -> str | None:
    """Return what is wrong with a call: an unknown command, or an option that the command does not have."""
    words = _words(call)
    command = _root()
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word in EVERYWHERE or _is_placeholder(word):
            return None
        if word in EXAMPLES:
            return None
        if word not in command.commands:
            return f"headrace {call}: {word} is not a command"
        command = command.commands[word]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    unknown = sorted(set(options) - known - EVERYWHERE)
    return f"headrace {call}: unknown {unknown}" if unknown else None


@cache
def _root() -> Any:
    return all_commands()


def _words(call: str) -> list[str]:
    try:
        return shlex.split(call)
    except ValueError:  # a quotation that the end of a line cut
        return call.split()


def _is_placeholder(word: str) -> bool:
    return word.isupper() or word.startswith(("<", "$", "…", "...", "["))


@pytest.mark.parametrize("page", pages())
def test_commands_and_options_exist(page: str) -> None:
    assert [text for call in calls(read(page)) if (text := problem(call))] == []


def test_calls_are_found() -> None:
    text = (
        "Call `headrace status JOB --watch`.\n\n    KAFKA_HOME=/opt/kafka headrace up --broker apache  # log\n\n"
        "```sh\ncat a.jsonl | .venv/bin/headrace submit - \\\n  --json && headrace results\n```\n\n"
        "```python\nheadrace = None\n```\n"
    )
    found = sorted(calls(text))
    assert found == ["results", "status JOB --watch", "submit -    --json", "up --broker apache"]
    assert [problem(call) for call in found] == [None] * 4
    assert problem("dead forget") == "headrace dead forget: forget is not a command"
    assert problem("run jobs.jsonl --fast") == "headrace run jobs.jsonl --fast: unknown ['--fast']"
