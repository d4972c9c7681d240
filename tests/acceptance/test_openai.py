"""README's example with OpenAI's client, against `headrace up`."""

import re
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell
from tests.services.eventually import eventually

pytestmark = pytest.mark.acceptance

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


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
