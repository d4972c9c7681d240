"""A batch in four commands, as README shows them."""

import json
import re
from pathlib import Path

import pytest
from tests.acceptance.conftest import lines

pytestmark = pytest.mark.acceptance

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_a_batch_in_four_commands(stack):
    """They run as they stand there: every line has an answer or an error, and the same file is the same batch."""
    commands = re.search(r"A batch in four commands.*?\n\n((?:    .*\n)+)", README)
    assert commands is not None
    script = "\n".join(line.strip() for line in commands[1].splitlines())
    assert script.count("headrace batch") == 4
    jobs = [json.dumps({"prompt": f"question {number}"}) for number in range(1, 301)]
    (stack.folder / "jobs.jsonl").write_text("\n".join([*jobs[:150], "{", *jobs[150:]]))
    program = stack.folder / "headrace"
    program.write_text(f'#!/bin/sh\nexec {" ".join(stack.argv())} "$@"\n')
    program.chmod(0o755)
    done = stack.shell(f"export PATH={stack.folder}:$PATH\n{script}\necho $id > id")
    answers = lines((stack.folder / "answers.jsonl").read_text())
    assert {each["line"]: each["answer"]["text"] for each in answers} == {
        number if number <= 150 else number + 1: f"question {number}" for number in range(1, 301)
    }
    (error,) = lines(done.stdout)
    assert (error["line"], error["error"]["code"]) == (151, "invalid")
    assert stack.run("batch", "submit", "jobs.jsonl").strip() == (stack.folder / "id").read_text().strip()
