import importlib
from pathlib import Path

import bench
import pytest
from bench.__main__ import main


@pytest.mark.slow
def test_every_module_of_the_benches_can_be_imported() -> None:
    folder = Path(bench.__file__).parent
    for path in folder.glob("*.py"):
        importlib.import_module(f"bench.{path.stem}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["structured", "decisions"])
def test_a_bench_runs_to_its_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(bench.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    assert main([name, "--quick", "--embedded"]) == 0
