import re
from pathlib import Path

from pydantic import TypeAdapter

from headrace_schemas import Criterion, NotJudged
from headrace_workers.models.verifiers.scale import MIN_MASS

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "criteria.md").read_text(encoding="utf-8")


def test_every_example_is_a_criterion_and_every_criterion_has_one() -> None:
    read = TypeAdapter(Criterion).validate_json
    kinds = {read(block).criterion for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)}
    assert kinds == {
        "exact_match", "f1", "chrf", "bleu", "gleu", "rouge", "fuzzy_match", "cosine", "contains", "regex",
        "json_valid", "json_schema", "language", "length", "rubric", "pairwise", "grounded",
    }  # fmt: skip


def test_the_page_names_the_floor() -> None:
    assert f"Below {MIN_MASS} the score is" in " ".join(PAGE.split())


def test_every_reason_is_told() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.split("## Reasons for a missing score")[1], re.MULTILINE)
    assert sorted(rows) == sorted(NotJudged)
