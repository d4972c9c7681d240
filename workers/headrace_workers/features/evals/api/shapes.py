"""Bodies of OpenAI's evals: requests that are read, and responses."""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from headrace_schemas.limits import NO_NUL
from headrace_workers.features.evals.run_state import FAILED, Tally, pass_rate
from headrace_workers.features.evals.templates import SAMPLED
from headrace_workers.http.paging import Page

_NAME: Final = 64  # characters
_VALUE: Final = 512
_USAGE: Final = ("invocation_count", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")

Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=_NAME, pattern=NO_NUL)],
        Annotated[str, Field(max_length=_VALUE, pattern=NO_NUL)],
    ],
    Field(max_length=16),
]
Title = Annotated[str, Field(max_length=256, pattern=NO_NUL)]


class _StrictBody(BaseModel):
    """A body that refuses unknown fields by name."""

    model_config = ConfigDict(extra="forbid")


class NewEvalBody(_StrictBody):
    """An eval to be created."""

    data_source_config: Annotated[dict[str, Any], Field(description="Of the type `custom`, with an `item_schema`.")]
    testing_criteria: Annotated[
        list[Any],
        Field(
            min_length=1, max_length=16, description="string_check, text_similarity, label_model, score_model, multi"
        ),
    ]
    name: Title | None = None
    metadata: Metadata | None = None


class EvalChange(_StrictBody):
    """The changes of an eval; a field that is absent stays as it is."""

    name: Title | None = None
    metadata: Metadata | None = None


class NewRunBody(_StrictBody):
    """A run to be started."""

    data_source: Annotated[dict[str, Any], Field(description="Of the type `jsonl`, `completions` or `responses`.")]
    name: Title | None = None
    metadata: Metadata | None = None


class EvalShape(BaseModel):
    """An eval."""

    id: str
    object: Literal["eval"] = "eval"
    created_at: int
    name: str
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str]

    @classmethod
    def of(cls, row: Row[Any]) -> "EvalShape":
        """Return the body in OpenAI's form."""
        return cls(
            id=row.id,
            created_at=row.created_at // 1000,
            name=row.name,
            data_source_config=_told_config(json.loads(row.data_source_config)),
            testing_criteria=json.loads(row.testing_criteria),
            metadata=json.loads(row.metadata),
        )


class EvalList(Page[EvalShape]):
    """Evals, a page of them."""


class EvalDeleted(BaseModel):
    """An eval that was deleted, with its runs."""

    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: Literal[True] = True
    eval_id: str


class RunDeleted(BaseModel):
    """A run that was deleted."""

    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: Literal[True] = True
    run_id: str


class RunShape(BaseModel):
    """A run. `headrace` has the batch that carries it, and the share of items that passed, with its interval."""

    id: str
    object: Literal["eval.run"] = "eval.run"
    created_at: int
    eval_id: str
    name: str
    status: Literal["queued", "in_progress", "canceling", "completed", "failed", "canceled"]
    model: str
    data_source: dict[str, Any]
    metadata: dict[str, str]
    result_counts: dict[str, int]
    per_testing_criteria_results: list[dict[str, Any]]
    per_model_usage: list[dict[str, Any]]
    report_url: str
    error: dict[str, str] | None
    headrace: dict[str, Any]

    @classmethod
    def of(cls, row: Row[Any], base: str) -> "RunShape":
        """Return the body in OpenAI's form; `base` is the gateway's URL."""
        names = [load["name"] for load in json.loads(row.testing_criteria)]
        tally = Tally.from_json(json.loads(row.tally), names)
        source = {name: value for name, value in json.loads(row.data_source).items() if name != "item_schema"}
        return cls(
            id=row.id,
            created_at=row.created_at // 1000,
            eval_id=row.eval_id,
            name=row.name,
            status=row.state,
            model=source.get("model", ""),
            data_source=source,
            metadata=json.loads(row.metadata),
            result_counts={"total": row.total, **_counts(row, tally)},
            per_testing_criteria_results=[
                {
                    "testing_criteria": name,
                    "passed": counts["passed"],
                    "failed": counts["failed"],
                    "headrace": {
                        "errored": counts["errored"],
                        "pass_rate": pass_rate(counts["passed"], counts["failed"]),
                    },
                }
                for name, counts in tally.graders.items()
            ],
            per_model_usage=[
                {"model_name": name, **{name: used[name] for name in _USAGE}} for name, used in tally.models.items()
            ],
            report_url=f"{base}/v1/evals/{row.eval_id}/runs/{row.id}/output_items",
            error={"code": "failed", "message": row.reason} if row.state == FAILED and row.reason else None,
            headrace={"batch": row.batch, "pass_rate": pass_rate(tally.counts["passed"], tally.counts["failed"])},
        )


class RunList(Page[RunShape]):
    """Runs, a page of them."""


class ItemShape(BaseModel):
    """The result of one row: `pass`, `fail`, or `error` if a grader has no score."""

    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    run_id: str
    eval_id: str
    status: Literal["pass", "fail", "error"]
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]

    @classmethod
    def of(cls, row: Row[Any], run: Row[Any]) -> "ItemShape":
        """Return the body in OpenAI's form."""
        kept = json.loads(row.item)
        return cls(
            id=item_id(run.id, row.number),
            created_at=row.created_at // 1000,
            run_id=run.id,
            eval_id=run.eval_id,
            status=row.status,
            datasource_item_id=row.number,
            datasource_item=kept.get("item", {}),
            results=json.loads(row.results or "[]"),
            sample={**_NO_SAMPLE, **json.loads(row.sample or "{}")},
        )


class ItemList(Page[ItemShape]):
    """Items, a page of them, in the order of their rows."""


_NO_SAMPLE: Final[dict[str, Any]] = {
    "input": [], "output": [], "finish_reason": None, "model": "", "error": None, "temperature": None, "top_p": None,
    "seed": None, "max_completion_tokens": None,
    "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0},
}  # fmt: skip


def item_id(run_id: str, number: int) -> str:
    """Return the id of an item, made of its run and its place in the run."""
    return f"outputitem_{run_id.removeprefix('evalrun_')}_{number}"


def number_of(called: str, run_id: str) -> int | None:
    """Return the place in this run that an item's id names; None if it is not an item of this run."""
    number = called.removeprefix(item_id(run_id, 0)[:-1])
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 9 and number != called else None


def _counts(row: Row[Any], tally: Tally) -> dict[str, int]:
    """Return the counts of a run. Unfinished items of a run that has ended count as errors."""
    counts = dict(tally.counts)
    if row.ended_at is not None:
        counts["errored"] = row.total - counts["passed"] - counts["failed"]
    return counts


def _told_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the data source configuration, with a schema of all that templates may read."""
    properties: dict[str, Any] = {"item": config["item_schema"]}
    if config.get("include_sample_schema"):
        name = SAMPLED.removeprefix("sample.")
        properties["sample"] = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    return {
        "type": "custom",
        "schema": {"type": "object", "properties": properties, "required": list(properties)},
    }
