"""What README says works."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace_producers.admin import ensure_topics
from headrace_workers.wiring.command_line import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What needs `headrace up` is in tests/acceptance, and the receiver of webhooks in test_examples.py.
PYTHON = [block for block in BLOCKS if "openai" not in block and "standardwebhooks" not in block]
COMMANDS = sorted(set(re.findall(r"(?:^    |`)headrace ([a-z]+(?: [a-z]+)?)", README, re.MULTILINE)))
LINKS = re.findall(r"\]\(((?!http)[^)#]+)\)", README)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_examples_run(block, embedded_kafka, monkeypatch):
    """Each example runs as it stands, against a real broker."""
    ensure_topics(embedded_kafka.settings())
    monkeypatch.setenv("HEADRACE_KAFKA", embedded_kafka.address)
    namespace = {}
    exec(compile(block, "README.md", "exec"), namespace)
    assert len(namespace["job_id"]) == 36


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command):
    """Each command that README names has a help page."""
    words = command.split()
    known = CliRunner().invoke(app, [*words, "--help"])
    if known.exit_code != 0:  # the second word was an argument
        known = CliRunner().invoke(app, [words[0], "--help"])
    assert known.exit_code == 0, known.output


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_links_lead_somewhere(link):
    """Each page and file that README points to is there."""
    assert (ROOT / link).exists()


def test_make_has_what_readme_names():
    """`make demo`, `make test`, `make bench` and `make chaos` are targets."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "bench", "chaos"} <= targets
