import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.models.embedders.hashed import make_hash_embedder

FILES = 4_000  # of which 50,000 take ten times as long, and no more memory for each
FEW = 400
A_FILE = 4_000  # bytes that may be kept of each; its text, vector and terms are more


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nothing tells a process's memory here")
def test_very_many_small_files_are_added_in_flat_memory(tmp_path: Path, ledger: Ledger, monkeypatch, call):
    make_hash_embedder(tmp_path / ".headrace")
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    for name, count in (("few", FEW), ("many", FILES)):
        for number in range(count):
            folder = tmp_path / name / f"{number // 500}"
            folder.mkdir(parents=True, exist_ok=True)
            text = f"# Mill {number}\n\n" + "\n\n".join(f"Wheel {place} of mill {number} turns." for place in range(40))
            (folder / f"{number}.md").write_text(text)
    few, many = (_peak(tmp_path, name) for name in ("few", "many"))
    assert (many - few) / (FILES - FEW) < A_FILE
    assert sum(base.documents for base in ledger.of(KnowledgeBases).bases("default")) == FEW + FILES
    code, _, said = call("knowledge", "add", "many", "many")
    assert (code, f"{FILES:,} unchanged" in said) == (0, True), said


def _peak(folder: Path, name: str) -> int:
    """The most memory that a process has which adds these files, in bytes."""
    command = [sys.executable, "-c", _ADD, "knowledge", "add", name, name]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", done.stdout, re.MULTILINE)
    return int(found) * 1_024


# What the system counts for a child begins with its parent's memory: so the process tells by itself.
_ADD = """
import sys
from pathlib import Path
from headrace_workers.wiring.command_line import run
code = run(sys.argv[1:])
print(Path("/proc/self/status").read_text())
sys.exit(code)
"""
