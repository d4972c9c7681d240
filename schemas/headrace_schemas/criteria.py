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
    """Doubt of another criterion: its score lies from `low` to `high`, or is missing.

    The other criterion must judge all jobs. `low` above `high` is refused.
    """

    criterion: Annotated[Label, Field(description="The other criterion: its name, or its kind if it has no name.")]
    low: Annotated[float, Field(ge=0, le=1, description="From this score on it is unsure.")] = 0.25
    high: Annotated[float, Field(ge=0, le=1, description="Up to this score it is unsure.")] = 0.75

    @model_validator(mode="after")
    def _ordered(self) -> "Uncertain":
        if self.high < self.low:
            raise ValueError(f"high ({self.high:g}) is below low ({self.low:g})")
        return self


_KIND: Final = Field(description="The kind of criterion.")


class _Named(Value):
    """Fields that every criterion may have."""

    name: Annotated[
        Label | None,
        Field(description="Your name for the criterion. It comes back in the score, with a version of the criterion."),
    ] = None
    share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The share of jobs that are judged by this criterion, drawn by the hash of the job's id.",
        ),
    ] = 1.0
    uncertain: Annotated[
        Uncertain | None,
        Field(description="Judge all jobs about which another criterion is unsure, and of the others the `share`."),
    ] = None
    output: Annotated[Text | None, Field(description="The text to judge instead of the job's output.")] = None
    template: Annotated[
        Digest | None,
        Field(description="The version of the template that this criterion was made from."),
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

    reference: Annotated[Text | None, Field(description="The text to compare with instead of the job's reference.")] = (
        None
    )


class ExactMatch(_Compared):
    """1.0 when output and reference are the same, else 0.0; with `differs` the other way round. Needs a reference.

    White space around both counts only where `trim` is false.
    """

    criterion: Annotated[Literal["exact_match"], _KIND] = "exact_match"
    ignore_case: Annotated[bool, Field(description="Ignore case.")] = False
    trim: Annotated[bool, Field(description="Ignore white space at both ends.")] = True
    differs: Annotated[bool, Field(description="Score 1.0 if they differ.")] = False


class TokenF1(_Compared):
    """F1 of the word bags of output and reference (SQuAD's measure). Needs a reference."""

    criterion: Annotated[Literal["f1"], _KIND] = "f1"


class ChrF(_Compared):
    """chrF of the output against the reference (Popović 2015, sacrebleu), divided by 100. Needs a reference."""

    criterion: Annotated[Literal["chrf"], _KIND] = "chrf"


class Bleu(_Compared):
    """Sentence BLEU with effective order (Papineni 2002, sacrebleu), divided by 100. Needs a reference."""

    criterion: Annotated[Literal["bleu"], _KIND] = "bleu"


class Gleu(_Compared):
    """Sentence GLEU (Wu 2016): the runs of 1 to 4 tokens that output and reference share, divided by the larger number
    of runs. Needs a reference.
    """

    criterion: Annotated[Literal["gleu"], _KIND] = "gleu"


class FuzzyMatch(_Compared):
    """Share of output and reference that is the same, character for character, in the same order. Needs a reference.

    Twice the length of their longest common subsequence, divided by the length of both together.
    """

    criterion: Annotated[Literal["fuzzy_match"], _KIND] = "fuzzy_match"


class Cosine(_Compared):
    """The cosine of the vectors of output and reference, by the deployment's embedder; below 0 it is 0.

    Needs a reference. Neither may be longer than the embedder reads.
    """

    criterion: Annotated[Literal["cosine"], _KIND] = "cosine"


class Rouge(_Compared):
    """ROUGE of the output against the reference (Lin 2004), as F1. Needs a reference.

    `variant` is `l` for the longest common subsequence of words, or a number for runs of so many words.
    """

    criterion: Annotated[Literal["rouge"], _KIND] = "rouge"
    variant: Annotated[
        Literal["l", "1", "2", "3", "4", "5"],
        Field(description="`l`: the longest common subsequence; a number: runs of so many words."),
    ] = "l"


class Contains(_Named):
    """1.0 when the output contains `text`, else 0.0."""

    criterion: Annotated[Literal["contains"], _KIND] = "contains"
    text: Annotated[ShortText, Field(min_length=1, description="The text to find.")]
    ignore_case: Annotated[bool, Field(description="Ignore case.")] = True


class Regex(_Named):
    """1.0 when `pattern` (RE2 syntax, linear time) is found in the output, else 0.0."""

    criterion: Annotated[Literal["regex"], _KIND] = "regex"
    pattern: Annotated[ShortText, Field(min_length=1, description="The pattern to find.")]


class JsonValid(_Named):
    """1.0 when the whole output is one JSON document, else 0.0."""

    criterion: Annotated[Literal["json_valid"], _KIND] = "json_valid"


class JsonSchema(_Named):
    """1.0 when the whole output is one JSON document that keeps to the JSON Schema, else 0.0.

    The schema (draft 2020-12, or what its `$schema` names) is whole in itself: `$ref` names parts of it, and it does
    not refer to itself. It has at most 20,000 characters, 64 levels and 2,000 subschemas (a pattern counts as 20), with
    references followed.
    """

    criterion: Annotated[Literal["json_schema"], _KIND] = "json_schema"
    json_schema: Annotated[dict[str, Any], AfterValidator(bounded), Field(description="The JSON Schema.")]


class Language(_Named):
    """1.0 when the output is written in `language` (ISO 639: two letters, or three), 0.0 when it is in another."""

    criterion: Annotated[Literal["language"], _KIND] = "language"
    language: Annotated[LanguageCode, Field(description="The language code.")]


class Length(_Named):
    """1.0 when the output has at least `min_words` and at most `max_words` words, else 0.0.

    A `max_words` below `min_words` is refused.
    """

    criterion: Annotated[Literal["length"], _KIND] = "length"
    min_words: Annotated[int, Field(ge=0, description="The least number of words."), INTEGRAL] = 0
    max_words: Annotated[
        Annotated[int, Field(ge=1), INTEGRAL] | None, Field(description="The greatest number of words.")
    ] = None

    @model_validator(mode="after")
    def _ordered(self) -> "Length":
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words ({self.max_words}) is below min_words ({self.min_words})")
        return self


class Rubric(_Named):
    """A question that a model answers about the output, scored from the logits of its first answer token.

    `yes_no` scores P(yes) among yes and no; `1-5` scores the expectation of the digit, scaled to [0, 1]. With `labels`
    the model chooses among these instead, and the score is the probability of the `passing` ones; to the model no two
    may begin alike. The probability mass that fell on the permitted answers is reported beside the score. `guidance`
    says what deserves which answer; `show` what else than the output is shown. `messages` come before the question,
    each in its role: examples with their right answers, say. Those of the system join what it is told of us.
    """

    criterion: Annotated[Literal["rubric"], _KIND] = "rubric"
    question: Annotated[Question, Field(description="The question about the output.")]
    scale: Annotated[Literal["yes_no", "1-5"], Field(description="The answers that the model chooses from.")] = "yes_no"
    labels: Annotated[
        tuple[NonEmptyLabel, ...],
        Field(max_length=_MOST_LABELS, description="Answers of your own, instead of `scale`."),
        FAIL_FAST,
    ] = ()
    passing: Annotated[
        tuple[NonEmptyLabel, ...], Field(max_length=_MOST_LABELS, description="The labels that pass."), FAIL_FAST
    ] = ()
    guidance: Annotated[
        Annotated[ShortText, Field(min_length=1)] | None,
        Field(description="Instructions for the model beside the question."),
    ] = None
    messages: Annotated[
        tuple[Message, ...],
        Field(max_length=MAX_MESSAGES, description="The whole conversation for the model, instead of `question`."),
        FAIL_FAST,
    ] = ()
    show: Annotated[
        tuple[Shown, ...], Field(max_length=3, description="What the model sees beside the output."), FAIL_FAST
    ] = ("context", "input", "reference")
    model: Annotated[Alias | None, Field(description="The model that judges. By default `HEADRACE_JUDGE_MODEL`.")] = (
        None
    )

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

    criterion: Annotated[Literal["pairwise"], _KIND] = "pairwise"
    question: Annotated[ShortText, Field(min_length=1, description="The question about both outputs.")] = (
        "Which output is the better answer to the input?"
    )
    guidance: Annotated[
        Annotated[ShortText, Field(min_length=1)] | None,
        Field(description="Instructions for the model beside the question."),
    ] = None
    model: Annotated[Alias | None, Field(description="The model that judges. By default `HEADRACE_JUDGE_MODEL`.")] = (
        None
    )


class Grounded(_Named):
    """The share of the answer's sentences that what it was given supports; the others are named with their reasons.

    Given is the `context` of an evaluation, the passages of a job that names a knowledge base, of another its prompt.
    """

    criterion: Annotated[Literal["grounded"], _KIND] = "grounded"
    hints: Annotated[
        bool,
        Field(
            description="Whether sentences are listed, too, that only look like denials, swapped roles or inventions. "
            "They are not counted, and many of them are right."
        ),
    ] = False


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
