"""The tutorials, step by step, on a real `headrace up` with SmolLM2 and MiniLM."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, running
from tests.services import warm
from tests.services.eventually import eventually
from tests.services.models import MINILM, SMOLLM2, minilm, smollm2

from headrace_workers.runtime.embedded.free_ports import free_ports

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PAGES = ("tutorial", "tutorial-applications")
# What differs from run to run: ids, the receiver's clock, times. And from processor to processor, by how it rounds: the
# words and tokens of answers from the document. The criteria say that these are right.
_VARYING = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r'"digest": "\w+"', "DIGEST"),
    (r"\[[^\]]+ [\d:]{8}\]", "CLOCK"),
    (r"\d[\d,.]* m?s\b", "TIME"),
    (r"( [1-9]\d*)? \d[\d,]*$", " TOKENS MS"),
    (r"\b[1-9]\d* tokens\b", "TOKENS"),
    (r"The museum is open from .*|The answer to the question is: 8|The ticket costs 8 euros\.|^euros\. ?", ""),
)


def _blocks(page: str) -> list[tuple[str, str]]:
    """Return the blocks of a page that are typed or printed, with their languages."""
    return re.findall(r"```(sh|text)\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A stack as the tutorial starts it, and `headrace` on the PATH."""
    folder = tmp_path_factory.mktemp("tutorial")
    models = folder / ".headrace" / "models"
    models.mkdir(parents=True)
    for name, home in ((SMOLLM2, smollm2("int8", tmp_path_factory)), (MINILM, minilm("int8", tmp_path_factory))):
        (models / name).symlink_to(home / "models" / name)
    (folder / "bin").mkdir()
    warm.write_command(folder / "bin")
    with running(folder, "--model", SMOLLM2, HEADRACE_MODEL=SMOLLM2, HEADRACE_WEBHOOK_HTTP="loopback") as started:
        yield started


def _lines(text: str) -> set[str]:
    """Return the lines of an output without what varies, and without the width of columns."""
    lines = set()
    for line in text.splitlines():
        shown = " ".join(line.split())
        for varying, name in _VARYING:
            shown = re.sub(varying, name, shown)
        lines.add(" ".join(shown.split()))
    return lines


def _prints(wanted: set[str], printed: str, heard: Path) -> bool:
    """Return True if a command or the receiver printed all of these lines. A table breaks its cells elsewhere where a
    time has more digits: of lines that are missing, the words must be there.
    """
    found = _lines(printed + heard.read_text())
    missing = Counter(word for line in wanted - found for word in line.split())
    return not missing - Counter(word for line in found for word in line.split())


@pytest.mark.parametrize("page", PAGES)
def test_each_step_prints_what_the_page_shows(shell: Shell, page: str):
    port = str(free_ports(1)[0])
    printed = secret = ""
    receiver: subprocess.Popen[str] | None = None
    heard = shell.folder / "receiver.log"
    heard.touch()
    try:
        for language, block in _blocks(page):
            if language == "text":
                wanted = _lines(block)
                eventually(partial(_prints, wanted, printed, heard), 60)
            elif "pip install" in block or "headrace up" in block:
                continue
            elif "receiver.py" in block:
                with heard.open("w") as log:
                    receiver = subprocess.Popen(
                        [sys.executable, str(ROOT / "examples" / "receiver.py"), port], stdout=log, stderr=log,
                        env={**shell.environment, "WEBHOOK_SECRET": secret}, text=True,
                    )  # fmt: skip
            else:
                commands = "\n".join(line for line in block.splitlines() if not line.startswith(("source ", "export ")))
                commands = commands.replace(":8080/", f":{port}/").replace("../headrace/", f"{ROOT}/")
                done = shell.shell(f"set -e\nexport PATH={shell.folder}/bin:$PATH\n{commands}")
                assert done.returncode == 0, done.stderr
                printed = done.stderr + done.stdout
                secret = next(iter(re.findall(r"^whsec_\S+$", printed, re.MULTILINE)), secret)
    finally:
        if receiver is not None:
            receiver.kill()
            receiver.wait()
    assert (receiver is not None) is (page == "tutorial")
