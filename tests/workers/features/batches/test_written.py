import pytest

from headrace_schemas.events import DeadLetter
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.features.batches.lines import Terms
from headrace_workers.features.batches.output_lines import Circumstances, why

TERMS = Terms(batch_id="batch_1", number=1, tenant="shop", expires_at=0, defaults=Defaults("none"))


@pytest.mark.parametrize(
    ("end", "late", "code"),
    [
        ({"category": "reroutable", "failure": "unparsable"}, False, "unparsable"),
        ({"category": "quota", "failure": "truncated"}, False, "truncated"),
        ({"category": "reroutable"}, False, "reroutable"),
        ({"category": "expired", "failure": "unparsable"}, True, "batch_expired"),
        ({"category": "expired", "failure": "unparsable"}, False, "unparsable"),
    ],
)
def test_the_code_of_an_answer_without_its_format_is_its_failure(end: dict[str, str], late: bool, code: str) -> None:
    seen = Circumstances(TERMS, cancelled=False, late=late)
    assert why({**end, "reason": "no"}, DeadLetter, seen) == (code, "no")
