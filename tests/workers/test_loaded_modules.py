import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workers.loaded_modules import ACCEPTED, by_room, room_of

pytestmark = pytest.mark.integration


def test_no_process_loads_more_modules_than_were_accepted() -> None:
    program = [sys.executable, "-m", "tests.workers.loaded_modules", "--json"]
    done = subprocess.run(program, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    more = []
    for kind, modules in json.loads(done.stdout).items():
        before, now = json.loads(ACCEPTED.read_text("utf-8"))[kind], by_room(modules)
        if now.total() > sum(before.values()):
            grown = [name for name in modules if now[room_of(name)] > before.get(room_of(name), 0)]
            more.append(
                f"{kind}: {now.total()} modules, not {sum(before.values())}. Among these are the new ones: {grown}"
            )
    assert not more, "\n".join([*more, "`python -m tests.workers.loaded_modules --accept` accepts this"])
