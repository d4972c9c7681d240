import pytest

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import PromptTooLong, Unavailable, UnknownModel
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Retry, outcome_of


class Rerouted(HeadraceError):
    category = Category.REROUTABLE


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("later"), Retry("later", category=Category.TRANSIENT)),
        (Rerouted("other"), Retry("other", category=Category.REROUTABLE)),
        (HeadraceError("broken"), Dead(Category.PERMANENT, "broken")),
        (UnknownModel("who"), Dead(Category.INVALID, "who")),
    ],
)
def test_the_category_decides(error: HeadraceError, outcome: Retry | Dead) -> None:
    """What may pass is tried again, with its category; all else is the end."""
    assert outcome_of(error) == outcome


def test_a_reason_fits_its_field() -> None:
    assert reason_of(PromptTooLong()) == "PromptTooLong"
    assert reason_of(PromptTooLong("a\0b")) == "a\ufffdb"
    assert len(reason_of(PromptTooLong("x" * 5000))) == MAX_SHORT_TEXT
