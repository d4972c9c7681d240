"""The page of the review rules, from their fields."""

from typing import Final

from headrace_schemas.review import HELD, MANUAL, MAX_RULES, Below, Disagreement, ReviewRule
from headrace_workers.features.reviews.rules import EXAMPLE, MAX_FILE_BYTES, MAX_TENANTS, ReviewRules, TenantReviews
from tools.reference.markdown_text import beginning, block, paragraphs
from tools.reference.schema_tables import fields

_INTRODUCTION: Final = """\
Review rules say which ended answers people are asked about. They stand in `reviews.toml` in the home, or in the file
that `HEADRACE_REVIEWS` names. An application's file may have [rules of its own](application-file.md#review). Without
rules, only jobs that are held for a person enter the review queue.
"""
_HOW: Final = f"""\
- An answer belongs to the first rule whose condition it meets. It is drawn with the `share` of this rule, and enters
  the queue or does not: no later rule is asked. Each rule is a stratum of the estimates.
- The draw is a hash of the rule's name and the job's id. A larger share holds a smaller one.
- The rules see the receipt, about two minutes after the job's end. Blocked answers, jobs of evaluations, and jobs that
  are no generation or evaluation enter nowhere.
- Jobs that are held for a person enter by the rule `{HELD}`, with the probability 1 and one person. If the job was held
  for its answer (at `moderate` or `judge`), it belongs to no other rule.
- Answers that people send from the console enter by the rule `{MANUAL}`, before all drawn ones. No rule can have this
  name, and their labels count in no estimate.
- A queue that has `most_open` open items takes no more. Answers that were drawn meanwhile are counted as overflow:
  `headrace review stats` shows how many.
"""
_FOLLOWED: Final = f"""\
The file has up to {MAX_FILE_BYTES:,} bytes, {MAX_RULES} rules and {MAX_TENANTS:,} tenants. A bridge copies it into
the ledger within about a minute of a change. A file that is wrong changes nothing: `headrace status`, `headrace doctor`
and the log (`rules_refused`) say what is wrong. `headrace review rules --file reviews.toml` checks a file beforehand.
"""


def page() -> str:
    """Return the page of the review rules, in Markdown."""
    return paragraphs(
        beginning("Review rules", "the fields of review rules", _INTRODUCTION),
        block("toml", EXAMPLE),
        "## Fields of the file",
        _table(ReviewRules),
        "## `[[rules]]`",
        _table(ReviewRule),
        "Give `below` or `disagreement`, or neither: a rule without a condition takes every answer.",
        "### `below`",
        _table(Below),
        "### `disagreement`",
        "A category of moderation counts as 1 where nothing was objected to, and as 0 where something was.",
        _table(Disagreement),
        "## `[tenants.NAME]`",
        _table(TenantReviews),
        "## How an answer is drawn",
        _HOW,
        "## The file",
        _FOLLOWED,
    )


def _table(cls: type[ReviewRules | ReviewRule | Below | Disagreement | TenantReviews]) -> str:
    return fields(cls.model_json_schema(), lambda name: f"`{name}`")
