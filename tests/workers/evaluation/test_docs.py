"""The run file that the page shows."""

import re
import shutil
from pathlib import Path

from headrace_workers.evaluation.dataset import read_dataset
from headrace_workers.evaluation.plan import Plan
from headrace_workers.evaluation.run_file import read_run

ROOT = Path(__file__).parents[3]


def test_the_run_file_on_the_page_is_one(tmp_path: Path) -> None:
    """With each field that there is; the example's dataset fills it."""
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
    (tmp_path / "run.toml").write_text(shown)
    (tmp_path / "terse.txt").write_text("Be terse.")
    shutil.copy(ROOT / "examples" / "evaluate" / "capitals.jsonl", tmp_path)
    run = read_run(tmp_path / "run.toml", "none")
    plan = Plan(run, read_dataset(tmp_path / run.dataset, run.id), "default")
    assert len(list(plan.lines())) == 80
    assert run.model_fields_set - {"criterion_names"} == type(run).model_fields.keys() - {"criterion_names"}
