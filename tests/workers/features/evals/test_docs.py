import re
import shutil
from pathlib import Path

from headrace_schemas import Rubric
from headrace_workers.features.evals.plan import Plan, read_dataset
from headrace_workers.features.evals.run_file import read_run

ROOT = Path(__file__).parents[4]


def test_the_run_file_on_the_page_is_one(tmp_path: Path) -> None:
    shown, criterion = re.findall(
        r"```toml\n(.*?)```", (ROOT / "docs" / "reference" / "evaluations.md").read_text(), re.DOTALL
    )
    (tmp_path / "run.toml").write_text(shown)
    (tmp_path / "terse.txt").write_text("Be terse.")
    (tmp_path / "polite.toml").write_text(criterion)
    shutil.copy(ROOT / "examples" / "evaluate" / "capitals.jsonl", tmp_path)
    run = read_run(tmp_path / "run.toml", "none")
    plan = Plan(run, read_dataset(tmp_path / run.dataset, run.id), "default")
    assert len(list(plan.lines())) == 120
    polite = run.criteria[-1]
    assert isinstance(polite, Rubric)
    assert (polite.key, polite.show) == ("polite", ("input",))
    assert run.model_fields_set == type(run).model_fields.keys()
