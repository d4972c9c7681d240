"""Harnesses of others, pointed at the gateway as docs/reference/evaluations.md says, if the packages are there."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell
from tests.services.eventually import eventually

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "evaluations.md").read_text(encoding="utf-8")


def called(stack: Shell, program: str, folder: Path) -> str:
    """Run the page's call of a program in a copy of the examples, with the echo model; what it says."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: it is no dependency of headrace's")
    (call,) = re.findall(rf"^    ((?:\S+=\S+ )*{program} .*)$", PAGE, re.MULTILINE)
    log = stack.folder / "up.log"
    (export,) = eventually(lambda: re.findall(r"^ *(export OPENAI_BASE_URL=.*)$", log.read_text(), re.MULTILINE))
    line = f"{export} && cd {folder} && {call.replace('smollm2-135m-instruct', 'echo')}"
    env = {**stack.environment, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(
        ["bash", "-c", line], cwd=stack.folder, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples, where they may be written beside."""
    return Path(shutil.copytree(ROOT / "examples" / "harnesses", tmp_path / "harnesses"))


@pytest.mark.slow
def test_inspect_ai_asks_the_gateway(stack: Shell, folder: Path) -> None:
    called(stack, "inspect", folder)
    (log,) = (folder / "logs").glob("*.json")
    found = json.loads(log.read_text())
    assert found["status"] == "success"
    assert found["results"]["completed_samples"] == 4
    assert found["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 1.0


@pytest.mark.slow
def test_lm_eval_asks_the_gateway(stack: Shell, folder: Path) -> None:
    called(stack, "lm_eval", folder)
    (results,) = (folder / "out").rglob("results_*.json")
    found = json.loads(results.read_text())["results"]["capitals"]
    assert found["exact_match,city"] == 1.0


def test_the_page_names_what_is_there() -> None:
    for name in re.findall(r"capitals\.\w+", PAGE.partition("## Other harnesses")[2]):
        assert (ROOT / "examples" / "harnesses" / name).exists()
