"""README's examples against a running `headrace up`, as they stand there."""

import json
import re
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, lines
from tests.services import warm
from tests.services.eventually import eventually

pytestmark = pytest.mark.acceptance

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_batch_of_the_readme(stack):
    commands = re.search(r"A batch, for.*?\n\n((?:    .*\n)+)", README)
    assert commands is not None
    script = "\n".join(line.strip() for line in commands[1].splitlines())
    assert script.count("headrace batch") == 4
    jobs = [json.dumps({"prompt": f"question {number}"}) for number in range(1, 301)]
    (stack.folder / "examples").mkdir()
    (stack.folder / "examples/jobs.jsonl").write_text("\n".join([*jobs[:150], "{", *jobs[150:]]))
    warm.write_command(stack.folder)
    done = stack.shell(f"export PATH={stack.folder}:$PATH\n{script}\necho $id > id")
    answers = lines((stack.folder / "answers.jsonl").read_text())
    assert {answer["line"]: answer["answer"]["text"] for answer in answers} == {
        number if number <= 150 else number + 1: f"question {number}" for number in range(1, 301)
    }
    (error,) = lines(done.stdout)
    assert (error["line"], error["error"]["code"]) == (151, "invalid")
    assert stack.run("batch", "submit", "examples/jobs.jsonl").strip() == (stack.folder / "id").read_text().strip()


def test_readme_s_example_answers(stack: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """With the variables that `up` prints, and nothing else; the model is the one that is served here."""
    (block,) = [found for found in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "openai" in found]
    log = stack.folder / "up.log"
    (export,) = eventually(lambda: re.findall(r"^ *(export OPENAI_BASE_URL=.*)$", log.read_text(), re.MULTILINE))
    told = stack.shell(f"{export} && echo $OPENAI_BASE_URL && echo $OPENAI_API_KEY")
    for name, value in zip(("OPENAI_BASE_URL", "OPENAI_API_KEY"), told.stdout.split(), strict=True):
        monkeypatch.setenv(name, value)
    exec(compile(block.replace("smollm2-135m-instruct", "echo"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "three rivers" in printed
    assert printed.endswith(" allow\n")
