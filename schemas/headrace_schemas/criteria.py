"""Criteria that a judge can be asked for. A criterion is named by its `criterion` field and yields one score in
[0, 1].
"""

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from headrace_schemas.answer_schema import bounded
from headrace_schemas.limits import (
    FAIL_FAST,
    INTEGRAL,
    MAX_MESSAGES,
    Alias,
    Digest,
    Label,
    LanguageCode,
    Question,
    ShortText,
    Text,
)
from headrace_schemas.message import Message
from headrace_schemas.model import Value

_VERSION_DIGITS: Final = 12
_MOST_LABELS: Final = 16
# Neither the name, nor how often it is asked, nor what one item brought: that is one question for all items of a
# template.
_NO_PART_OF_VERSION: Final = frozenset({"name", "template", "reference", "output", "share", "uncertain"})

Shown = Literal["context", "input", "reference"]
NonEmptyLabel = Annotated[ShortText, Field(min_length=1, max_length=100)]


class Uncertain(Value):
    """Judged is what another criterion of the job is unsure about: its score lies from `low` to `high`, or is missing.

    `criterion` is that one's name, or its kind where it has none. It is judged always. `low` above `high` is refused.
    """

    criterion: Label
    low: Annotated[float, Field(ge=0, le=1)] = 0.25
    high: Annotated[float, Field(ge=0, le=1)] = 0.75

    @model_validator(mode="after")
    def _ordered(self) -> "Uncertain":
        if self.high < self.low:
            raise ValueError(f"high ({self.high:g}) is below low ({self.low:g})")
        return self


class _Named(Value):
    """Fields that every criterion may have."""

    name: Annotated[
        Label | None,
        Field(description="Yours, to tell criteria apart: it comes back in the score, with what the criterion is now."),
    ] = None
    share: Annotated[
        float,
        Field(gt=0, le=1, description="Of all jobs, those that are judged by this: drawn by the hash of the job's id."),
    ] = 1.0
    uncertain: Annotated[
        Uncertain | None,
        Field(description="Judged is whatever another criterion is unsure about, and of the rest the `share`."),
    ] = None
    output: Annotated[Text | None, Field(description="The text to judge, if it is not the job's output.")] = None
    template: Annotated[
        Digest | None,
        Field(description="Of one that was filled for an item: the version of what all were filled from, as its own."),
    ] = None

    @property
    def key(self) -> str:
        """Return the key of scores and labels: the criterion's name, else its kind."""
        return self.name or str(getattr(self, "criterion"))  # noqa: B009 - each kind has it

    @property
    def version(self) -> str:
        """Return the digest of all that it asks for, but for its name and how often it is asked: another question is
        another version.
        """
        if self.template is not None:
            return self.template
        content = self.model_dump(mode="json", exclude=set(_NO_PART_OF_VERSION), exclude_defaults=True)
        content["criterion"] = getattr(self, "criterion")  # noqa: B009
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_VERSION_DIGITS]


class _Compared(_Named):
    """Fields of every criterion that compares."""

    reference: Annotated[
        Text | None, Field(description="The text to compare with, if it is not the job's reference.")
    ] = None


class ExactMatch(_Compared):
    """1.0 when output and reference are the same, else 0.0; with `differs` the other way round. Needs a reference.

    White space around both counts only where `trim` is false.
    """

    criterion: Literal["exact_match"] = "exact_match"
    ignore_case: bool = False
    trim: bool = True
    differs: bool = False


class TokenF1(_Compared):
    """F1 of the word bags of output and reference (SQuAD's measure). Needs a reference."""

    criterion: Literal["f1"] = "f1"


class ChrF(_Compared):
    """chrF of the output against the reference (Popović 2015, sacrebleu), divided by 100. Needs a reference."""

    criterion: Literal["chrf"] = "chrf"


class Bleu(_Compared):
    """Sentence BLEU with effective order (Papineni 2002, sacrebleu), divided by 100. Needs a reference."""

    criterion: Literal["bleu"] = "bleu"


class Gleu(_Compared):
    """Sentence GLEU (Wu 2016): of the runs of 1 to 4 tokens of output and reference those that both have, by the larger
    number of them. Needs a reference.
    """

    criterion: Literal["gleu"] = "gleu"


class FuzzyMatch(_Compared):
    """Share of output and reference that is the same, character for character, in the same order. Needs a reference.

    Twice the length of their longest common subsequence, divided by the length of both together.
    """

    criterion: Literal["fuzzy_match"] = "fuzzy_match"


class Cosine(_Compared):
    """The cosine of the vectors of output and reference, by the deployment's embedder; below 0 it is 0.

    Needs a reference. Neither may be longer than the embedder reads.
    """

    criterion: Literal["cosine"] = "cosine"


class Rouge(_Compared):
    """ROUGE of the output against the reference (Lin 2004), as F1. Needs a reference.

    `variant` is `l` for the longest common subsequence of words, or a number for runs of so many words.
    """

    criterion: Literal["rouge"] = "rouge"
    variant: Literal["l", "1", "2", "3", "4", "5"] = "l"


class Contains(_Named):
    """1.0 when the output contains `text`, else 0.0."""

    criterion: Literal["contains"] = "contains"
    text: Annotated[ShortText, Field(min_length=1)]
    ignore_case: bool = True


class Regex(_Named):
    """1.0 when `pattern` (RE2 syntax, linear time) is found in the output, else 0.0."""

    criterion: Literal["regex"] = "regex"
    pattern: Annotated[ShortText, Field(min_length=1)]


class JsonValid(_Named):
    """1.0 when the whole output is one JSON document, else 0.0."""

    criterion: Literal["json_valid"] = "json_valid"


class JsonSchema(_Named):
    """1.0 when the whole output is one JSON document that keeps to the JSON Schema, else 0.0.

    The schema (draft 2020-12, or what its `$schema` names) is whole in itself: `$ref` names parts of it, and it does
    not refer to itself. It has at most 20,000 characters, 64 levels and 2,000 subschemas (a pattern counts as 20), with
    references followed.
    """

    criterion: Literal["json_schema"] = "json_schema"
    json_schema: Annotated[dict[str, Any], AfterValidator(bounded)]


class Language(_Named):
    """1.0 when the output is written in `language` (ISO 639: two letters, or three), 0.0 when it is in another."""

    criterion: Literal["language"] = "language"
    language: LanguageCode


class Length(_Named):
    """1.0 when the output has at least `min_words` and at most `max_words` words, else 0.0.

    A `max_words` below `min_words` is refused.
    """

    criterion: Literal["length"] = "length"
    min_words: Annotated[int, Field(ge=0), INTEGRAL] = 0
    max_words: Annotated[int, Field(ge=1), INTEGRAL] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Length":
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words ({self.max_words}) is below min_words ({self.min_words})")
        return self


class Rubric(_Named):
    """A question that a model answers about the output, scored from the logits of its first answer token.

    `yes_no` scores P(yes) among yes and no; `1-5` scores the expectation of the digit, scaled to [0, 1]. With `labels`
    the model chooses among these instead, and the score is the probability of those that are `passing`; to the model
    no two may begin alike. The probability mass that fell on the permitted answers is reported beside the score.
    `guidance` says what deserves which answer; `show` what else than the output is shown. `messages` come before the
    question, each in its role: examples with their right answers, say. Those of the system join what it is told of us.
    """

    criterion: Literal["rubric"] = "rubric"
    question: Question
    scale: Literal["yes_no", "1-5"] = "yes_no"
    labels: Annotated[tuple[NonEmptyLabel, ...], Field(max_length=_MOST_LABELS), FAIL_FAST] = ()
    passing: Annotated[tuple[NonEmptyLabel, ...], Field(max_length=_MOST_LABELS), FAIL_FAST] = ()
    guidance: Annotated[ShortText, Field(min_length=1)] | None = None
    messages: Annotated[tuple[Message, ...], Field(max_length=MAX_MESSAGES), FAIL_FAST] = ()
    show: Annotated[tuple[Shown, ...], Field(max_length=3), FAIL_FAST] = ("context", "input", "reference")
    model: Alias | None = None  # the judge's own default model when absent

    @model_validator(mode="after")
    def _labels_that_differ(self) -> "Rubric":
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels and passing: two labels are the same")
        if len(self.labels) == 1:
            raise ValueError("labels and passing: one label is no choice")
        if strange := sorted(set(self.passing) - set(self.labels)):
            raise ValueError(f"labels and passing: {strange[0]!r} is not one of the labels")
        if self.labels and not self.passing:
            raise ValueError("labels and passing: without one that passes nothing ever would")
        return self


class Pairwise(_Named):
    """1.0 when a model finds the output better than the job's `other` (else its `reference`), 0.0 when worse.

    It is asked in both orders. Where the verdict changes with the order there is no value; where both outputs are the
    same, or neither is better in either order, it is 0.5. `guidance` says by what it is to be decided.
    """

    criterion: Literal["pairwise"] = "pairwise"
    question: Annotated[ShortText, Field(min_length=1)] = "Which output is the better answer to the input?"
    guidance: Annotated[ShortText, Field(min_length=1)] | None = None
    model: Alias | None = None  # the judge's own default model when absent


class Grounded(_Named):
    """The share of the answer's sentences that what it was given supports; the others are named with their reasons.

    Given is the `context` of an evaluation, the passages of a job that names a knowledge base, of another its prompt.
    """

    criterion: Literal["grounded"] = "grounded"


Criterion = Annotated[
    ExactMatch
    | TokenF1
    | ChrF
    | Bleu
    | Gleu
    | Rouge
    | FuzzyMatch
    | Cosine
    | Contains
    | Regex
    | JsonValid
    | JsonSchema
    | Language
    | Length
    | Rubric
    | Pairwise
    | Grounded,
    Field(discriminator="criterion"),
]
