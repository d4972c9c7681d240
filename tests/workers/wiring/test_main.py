"""What a process builds is imported when it is built: most processes need little."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "faiss", "ctranslate2", "torch", "phonenumbers", "stdnum"}


@pytest.mark.parametrize("process", ["bridge", "worker", "gateway"])
def test_the_composition_root_imports_nothing_heavy(process):
    program = f"import sys\nimport headrace_workers.wiring.build_{process}\nprint(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"headrace_workers.wiring.build_{process}" in shown.stdout.split()
    assert HEAVY.isdisjoint(shown.stdout.split())
