"""The commands of the how-to pages on good answers, in their order, against a running `headrace up`."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, lines, running
from tests.services import warm
from tests.services.eventually import eventually
from tests.services.models import MINILM, minilm

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
# Commands that the test cannot run: they never end, or need a model that can judge.
LEFT_OUT = re.compile(r"headrace up|my-judge|examples/|headrace dataset clean raw.jsonl clean.jsonl --tests")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A stack with the echo model and MiniLM, and `headrace` on the path of its shell."""
    folder = tmp_path_factory.mktemp("how-to")
    models = folder / ".headrace" / "models"
    models.mkdir(parents=True)
    (models / MINILM).symlink_to(minilm("int8", tmp_path_factory) / "models" / MINILM)
    with running(folder, HEADRACE_SERVE_UNSHOWN="true") as shell:
        warm.write_command(folder)
        yield shell


def run(shell: Shell, page: str, files: dict[str, str]) -> dict[str, str]:
    """Write the page's files and run its commands; what each printed on both streams.

    `files`: for each name the beginning of its lines on the page, or the language of the block that is its content.
    """
    text = (PAGES / f"{page}.md").read_text("utf-8")
    for name, start in files.items():
        block = re.search(rf"```{re.escape(start)}\n(.*?)```", text, re.DOTALL)
        found = re.findall(rf"^    ({re.escape(start)}.*)$", text, re.MULTILINE)
        assert block or found, (page, name)
        (shell.folder / name).write_text(block[1] if block else "\n".join(found) + "\n")
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    commands = re.findall(r"^    ((?:headrace|mkdir|printf|echo) .*)$", plain, re.MULTILINE)
    printed, job = {}, ""
    for command in commands:
        if LEFT_OUT.search(command):
            continue
        done = shell.shell(f"export PATH={shell.folder}:$PATH\nset -o pipefail\n{command.replace('JOB', job)}")
        if command == "headrace submit screened.jsonl":
            job = done.stdout.strip()
            eventually(partial(is_held, shell, job))
        printed[command] = f"{done.returncode}\n{done.stdout}{done.stderr}"
    return printed


def is_held(shell: Shell, job: str) -> bool:
    """Return True once a step of this job waits for a person."""
    found = lines(shell.call("status", job, "--json", code=(0, 1)).stdout)
    return any(step["state"] == "held" for entry in found for step in entry["steps"])


def failed(printed: dict[str, str]) -> dict[str, str]:
    """Return the commands that did not end with 0."""
    return {command: said for command, said in printed.items() if not said.startswith("0\n")}


def test_a_knowledge_base(shell: Shell) -> None:
    printed = run(shell, "add-a-knowledge-base", {"questions.jsonl": '{"question"'})
    removal = "headrace knowledge remove handbook handbook/old.md"
    assert set(failed(printed)) <= {removal}
    assert "handbook: 1 added; 1 chunk written" in printed["headrace knowledge add handbook handbook/"]
    asked = 'headrace submit --knowledge handbook --prompt "How many days of leave are there?" --wait'
    assert "[1] handbook/leave.md: Leave > Days (relevance 0." in printed[asked]


def test_a_moderation_policy(shell: Shell) -> None:
    printed = run(shell, "set-a-moderation-policy", {"policy.toml": "toml", "blocklist.txt": "text"})
    assert failed(printed) == {}
    assert "policy.toml is right" in printed["headrace moderation check --policy policy.toml"]
    blocked = printed['headrace moderation check "About Project Falcon." --policy policy.toml']
    assert "block, by policy" in blocked
    assert "prompt_injection" in printed["headrace review held"].replace("\n", "")


def test_reviews_and_labels(shell: Shell) -> None:
    printed = run(shell, "review-answers", {"labels.jsonl": '{"job_id"'})
    withheld = 'headrace review held JOB --withhold "names a customer"'
    assert "1 released" in printed["headrace review held JOB --release"]
    assert "it is not held" in printed[withheld]


def test_the_cache(shell: Shell) -> None:
    """The second of two equal jobs is served, and so is the same question in other words."""
    printed = run(shell, "serve-repeated-questions", {"pairs.jsonl": '{"question"'})
    exact = next(said for command, said in printed.items() if "--cache exact" in command)
    assert " 0 tokens" in exact
    reworded = next(
        said for command, said in printed.items() if "best way" in command and command.startswith("headrace submit")
    )
    assert " 0 tokens" in reworded


def test_training_data(shell: Shell) -> None:
    """Cleaning the page's lines gives the page's reasons."""
    text = (PAGES / "prepare-training-data.md").read_text("utf-8")
    lines = re.findall(r"^    (\{\"(?:prompt|text)\".*)$", text, re.MULTILINE)
    reasons = re.findall(r"^    (\{\"line\".*)$", text, re.MULTILINE)
    (shell.folder / "raw.jsonl").write_text("\n".join(lines))
    done = shell.shell(
        f"export PATH={shell.folder}:$PATH\nheadrace dataset clean raw.jsonl clean.jsonl --removed removed.jsonl"
    )
    assert "1 of 4 lines kept" in done.stdout + done.stderr
    assert (shell.folder / "removed.jsonl").read_text().splitlines() == reasons
