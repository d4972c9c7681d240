import subprocess
import sys

import psutil
import pytest

from headrace_workers.runtime.embedded.child_processes import ChildSpec, kill_group, start
from headrace_workers.runtime.embedded.home import AlreadyRunning, HomeLock, end_leftovers, write_children

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
HOLD = """
import sys, time
from pathlib import Path
from headrace_workers.runtime.embedded.home import HomeLock
lock = HomeLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_two_cannot_hold_one_home(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(AlreadyRunning, match=f"process {owner.pid}"):
        HomeLock(tmp_path).acquire()
    owner.kill()
    owner.wait()
    lock = HomeLock(tmp_path).acquire()
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held


def test_what_a_killed_owner_left_is_ended(tmp_path):
    child = start(ChildSpec(name="orphan", argv=SLEEP), tmp_path)
    write_children(tmp_path, [child])
    lock = HomeLock(tmp_path).acquire()
    child.process.wait(120)
    assert not child.running
    lock.release()


def test_a_process_that_only_shares_the_id_is_left_alone(tmp_path):
    """An id that was given to another process since is not killed."""
    child = start(ChildSpec(name="stranger", argv=SLEEP), tmp_path)
    path = tmp_path / "children.json"
    path.write_text(f'[{{"name": "old", "pid": {child.process.pid}, "started": "1"}}]')
    assert end_leftovers(tmp_path) == []
    assert child.running
    kill_group(child.process.pid)
    child.process.wait()


@pytest.mark.parametrize("content", ["", "{", '[{"pid": "x"}]', "[1]"])
def test_a_broken_list_is_no_obstacle(tmp_path, content):
    (tmp_path / "children.json").write_text(content)
    assert end_leftovers(tmp_path) == []
    assert psutil.pid_exists(1)
