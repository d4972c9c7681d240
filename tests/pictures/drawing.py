"""The pictures of the documentation: three commands that are run with SmolLM2, and what they print."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.pictures.terminal import picture, printed

from headrace_workers.models.pull import pull

_EXAMPLES: Final = Path(__file__).parents[2] / "examples"
_MODEL: Final = "smollm2-135m-instruct"
_WHEN: Final = "2026-11-20T12:00:00Z"
# Of examples/jobs.jsonl: some of each kind, with findings of moderation and the label that is known to be wrong.
_LINES: Final = (1, 2, 5, 6, 7, 10, 14, 18, 20, 22, 25, 28, 29, 31, 32, 33)


def draw(work: Path, into: Path) -> list[Path]:
    """Run the commands in the empty folder `work`, write an SVG of each into `into`, and return the files."""
    pull(_MODEL, work / "home", "int8")
    jobs = (_EXAMPLES / "jobs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (work / "jobs.jsonl").write_text("".join(jobs[number - 1] for number in _LINES), encoding="utf-8")
    shutil.copytree(_EXAMPLES / "evaluate", work / "evaluate")
    made = [_drawn(work, into, "run", "headrace run jobs.jsonl -o receipts.jsonl --table")]
    made.append(_drawn(work, into, "evaluation", "headrace evaluate evaluate/run.toml -o report"))
    _label(work)
    made.append(_drawn(work, into, "quality", "headrace quality"))
    return made


def _drawn(work: Path, into: Path, name: str, command: str) -> Path:
    path = into / f"{name}.svg"
    path.write_text(picture(command, _output(work, command), f"headrace-{name}") + "\n", encoding="utf-8")
    return path


def _output(work: Path, command: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    env = {**kept, "HEADRACE_HOME": str(work / "home"), "HEADRACE_MODEL": _MODEL}
    return printed([sys.executable, "-m", "headrace_workers", *command.split()[1:]], work, env)


def _label(work: Path) -> None:
    """Import a label for each answer of the evaluation: whether it names the capital."""
    items = (work / "evaluate" / "capitals.jsonl").read_text(encoding="utf-8").splitlines()
    capitals = {item["country"]: item["capital"] for item in map(json.loads, items)}
    labels = []
    for receipt in map(json.loads, (work / "report" / "receipts.jsonl").read_text(encoding="utf-8").splitlines()):
        right = capitals[receipt["metadata"]["item"]] in receipt["answer"]["text"]
        labels.append(
            {"job_id": receipt["job_id"], "criterion": "right", "label": right, "who": "ann", "when": _WHEN}
        )  # fmt: skip
    (work / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels), encoding="utf-8")
    _output(work, "headrace review import labels.jsonl")
