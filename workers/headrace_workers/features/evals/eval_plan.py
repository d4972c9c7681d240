"""An eval and a data source, put together: each row's job, and what its receipt comes to. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

from pydantic import ValidationError

from headrace_schemas import EvaluationJob, GenerationJob, HeadraceError
from headrace_schemas.answer_schema import bounded
from headrace_schemas.codec import check_size, encode_given
from headrace_schemas.job import Lane
from headrace_schemas.reasons import describe
from headrace_schemas.recall import CacheMode
from headrace_workers.core.templates import Template
from headrace_workers.features.evals.data_source import Asks, DataSource, data_source_of, judged_text
from headrace_workers.features.evals.graders import Grader, Judging, LabelModel, ScoreModel, graders_of
from headrace_workers.features.evals.run_state import Tally
from headrace_workers.features.evals.templates import SAMPLED, Scope
from headrace_workers.features.judging.checks import compiled_schema, first_fault
from headrace_workers.features.judging.scores import TooDeep, UnusableSchema
from headrace_workers.http.openai import unsupported, wrong

_PATH: Final = "data_source_config.item_schema"
_KEPT: Final = 32  # schemas that are compiled already: an open run is looked at twice a second


@dataclass(frozen=True, slots=True)
class ItemSchema:
    """A schema that can be used, as JSON."""

    text: str

    @classmethod
    def of(cls, schema: Any) -> Self:
        """Return the schema. Raise Refused, which says why it cannot be used."""
        if not isinstance(schema, Mapping):
            raise wrong(_PATH, "must be an object: the JSON Schema of each row")
        try:
            text = json.dumps(bounded(dict(schema)))
            _compiled(text)
        except (ValueError, UnusableSchema) as error:
            raise wrong(_PATH, str(error).removeprefix("the schema ")) from None
        return cls(text)

    def hold(self, item: Mapping[str, Any]) -> None:
        """Raise ValueError, which names the first fault, where an item does not match the schema."""
        try:
            fault = first_fault(_compiled(self.text), item)
        except TooDeep:
            raise ValueError("it is nested too deeply to be held to item_schema") from None
        if fault is not None:
            raise ValueError(f"it does not keep to item_schema: {fault}")


@lru_cache(_KEPT)
def _compiled(text: str) -> Any:
    return compiled_schema(json.loads(text))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a data source: its fields, and the text that it brings to be judged, if it does."""

    item: Mapping[str, Any]
    sampled: str | None = None

    @classmethod
    def of(cls, raw: Any) -> Self:
        """Return the row of a line. Raise ValueError, which says why it is invalid."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("item"), Mapping):
            raise ValueError('a row must be an object with an object `item`: {"item": {"question": …}}')
        if strange := sorted(raw.keys() - {"item", "sample"}):
            raise ValueError(f"`{strange[0]}` is not known: a row has `item`, and may have `sample`")
        sample = raw.get("sample")
        if sample is not None and not isinstance(sample, Mapping):
            raise ValueError("`sample` must be an object")
        text = None if sample is None else sample.get("output_text")
        if text is not None and not isinstance(text, str):
            raise ValueError("`sample.output_text` must be text")
        return cls(raw["item"], text)


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """All that is to be done with each row. `judged`: the text of a row's job, which is the sampled one where a grader
    reads that, else the first that one names; None: no grader names one, and it is the item.
    """

    graders: tuple[Grader, ...]
    judged: Template | None
    asks: Asks | None
    schema: ItemSchema

    @classmethod
    def of(cls, testing_criteria: Sequence[Any], data_source: Any, item_schema: Mapping[str, Any]) -> Self:
        """Return the plan of a run. Raise Refused, which names parts that do not fit together."""
        graders, source = graders_of(testing_criteria), data_source_of(data_source)
        return cls.put_together(graders, source, item_schema)

    @classmethod
    def put_together(cls, graders: tuple[Grader, ...], source: DataSource, item_schema: Mapping[str, Any]) -> Self:
        """Return the plan of graders and a data source that have been read."""
        judged = judged_by(graders)
        if source.asks is not None:
            _known_before_the_answer(graders, judged)
        return cls(graders, judged, source.asks, ItemSchema.of(item_schema))

    def line(self, row: Row, number: int, run: str, tenant: str) -> bytes:
        """Return the row's job as a line of a batch, whose `custom_id` is its number. Raise ValueError."""
        self.schema.hold(row.item)
        try:
            value = encode_given(self._job(row, number, run, tenant))
            check_size(value)
        except ValidationError as error:  # before ValueError, which it is
            raise ValueError(describe(error)) from None
        except HeadraceError as error:  # of what a row says of messages, or of its size
            raise ValueError(str(error)) from None
        kind = b"evaluation" if self.asks is None else b"generation"
        return b'{"kind":"' + kind + b'",' + value[1:] + b"\n"

    def sample(self, row: Row, answer: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the request and the answer in OpenAI's form. `answer` is the receipt's."""
        scope, asks = Scope(row.item, row.sampled), self.asks
        text = (answer or {}).get("text")
        messages: list[dict[str, str]] = []
        if asks is not None and error is None:
            messages = [{"role": message.role, "content": message.content} for message in asks.messages(scope)]
        elif asks is None and error is None:
            text = judged_text(self.judged, scope, row.item)
        usage = (answer or {}).get("usage") or {}
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        sampling = None if asks is None else asks.sampling
        return {
            "input": messages,
            "output": [] if text is None else [{"role": "assistant", "content": text}],
            "finish_reason": (answer or {}).get("finish_reason"),
            "model": (answer or {}).get("model") or (asks.model if asks else ""),
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "cached_tokens": 0,
            },
            "error": error,
            "temperature": sampling.temperature if sampling else None,
            "top_p": sampling.top_p if sampling else None,
            "seed": sampling.seed if sampling else None,
            "max_completion_tokens": sampling.max_tokens if sampling else None,
        }

    def results(self, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the result of each grader, given the scores of a receipt."""
        entries, place = [], 0
        for grader in self.graders:
            entries.append(grader.result(scores[place : place + len(grader.parts)]))
            place += len(grader.parts)
        return entries

    @property
    def criteria_count(self) -> int:
        """The number of scores in a receipt."""
        return sum(len(grader.parts) for grader in self.graders)

    def tally(self) -> Tally:
        """Return the tally before any item has ended."""
        return Tally.empty([grader.name for grader in self.graders])

    def _job(self, row: Row, number: int, run: str, tenant: str) -> GenerationJob | EvaluationJob:
        scope = Scope(row.item, row.sampled)
        shared: dict[str, Any] = {
            "tenant": tenant,
            "idempotency_key": str(number),  # what the line is called
            "lane": Lane.BATCH,
            "criteria": tuple(
                part.criterion(scope, self._own_text(part, scope, row))
                for grader in self.graders
                for part in grader.parts
            ),
            "metadata": {"evaluation": run, "item": str(number)},
        }
        if self.asks is None:
            return EvaluationJob(**shared, input="", output=judged_text(self.judged, scope, row.item))
        return GenerationJob(
            **shared, model=self.asks.model, messages=self.asks.messages(scope), sampling=self.asks.sampling,
            output=self.asks.output, cache=CacheMode.OFF,
        )  # fmt: skip

    def _own_text(self, part: Judging, scope: Scope, row: Row) -> str | None:
        """Return the text that a grader judges, where it is not the job's: the text that it names, or the item."""
        return None if part.judged == self.judged else judged_text(part.judged, scope, row.item)


def judged_by(graders: Sequence[Grader]) -> Template | None:
    """Return the text that a row's job is about: the sampled one where a grader reads it, else the first that is
    read.
    """
    read = [part.judged for grader in graders for part in grader.parts if part.judged is not None]
    return next((template for template in read if template.only_field == SAMPLED), read[0] if read else None)


def models_of(graders: Sequence[Grader]) -> dict[str, str]:
    """Return the models that graders ask, by the places where a request names them."""
    return {
        f"testing_criteria[{place}].{f'graders.{part.leaf.name}.' if grader.formula else ''}model": part.leaf.model
        for place, grader in enumerate(graders)
        for part in grader.parts
        if isinstance(part.leaf, LabelModel | ScoreModel)
    }


def reads_sample(graders: Sequence[Grader]) -> bool:
    """Return True if one of the graders reads the text that was sampled."""
    parts = (part for grader in graders for part in grader.parts)
    return any(part.judged is not None and SAMPLED in part.judged.fields for part in parts)


def _known_before_the_answer(graders: Sequence[Grader], judged: Template | None) -> None:
    """Raise Refused where a model is asked in vain, or a grader mixes its answer with other text: a job states what is
    judged before there is an answer.
    """
    for place, grader in enumerate(graders):
        for part in grader.parts:
            if part.judged is not None and SAMPLED in part.judged.fields and part.judged.only_field != SAMPLED:
                raise unsupported(
                    f"testing_criteria[{place}].input",
                    f"has other text around {{{{{SAMPLED}}}}}, which works with rows that bring their samples (jsonl); "
                    "where a model is asked it must stand alone",
                )
    if judged is None or judged.only_field != SAMPLED:
        raise unsupported("data_source.type", f"a model is asked, and no grader reads {{{{{SAMPLED}}}}} as its input")


def item_schema_of(config: Any) -> Mapping[str, Any]:
    """Return the schema of an eval's rows. Raise Refused, which names what is not supported."""
    path = "data_source_config"
    if not isinstance(config, Mapping) or config.get("type") != "custom":
        raise unsupported(f"{path}.type", "must be custom: headrace has no logs to take rows from")
    if strange := sorted(config.keys() - {"type", "item_schema", "include_sample_schema"}):
        raise wrong(f"{path}.{strange[0]}", "is not known here: leave it out")
    ItemSchema.of(config.get("item_schema"))
    if not isinstance(config.get("include_sample_schema", False), bool | None):
        raise wrong(f"{path}.include_sample_schema", "must be true or false")
    return dict(config["item_schema"])


def error_of(code: str, message: str) -> dict[str, str]:
    """Return the reason why an item has no answer, in OpenAI's form."""
    return {"code": code, "message": message[:2_000]}


def item_text(row: Row) -> str:
    """Return a row as it is stored."""
    return json.dumps({"item": row.item, **({} if row.sampled is None else {"sample": {"output_text": row.sampled}})})
