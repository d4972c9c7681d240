"""The page of the application file, from its fields and the bounds of templates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from headrace_schemas import GenerationJob
from headrace_schemas.limits import (
    MAX_CHAIN,
    MAX_CRITERIA,
    MAX_ITEMS,
    MAX_MESSAGES,
    MAX_SHORT_TEXT,
    MAX_TEXT,
    MAX_VALUE_BYTES,
    MAX_VARIABLES,
)
from headrace_schemas.review import MAX_RULES
from headrace_workers.core.templates import (
    CASED,
    COMPARED,
    EXPRESSION_STEPS,
    LOOK_UP_STEPS,
    MAX_DEPTH,
    MAX_STEPS,
    PART_STEPS,
    SEARCHED,
    WRITTEN,
    WRITTEN_STEPS,
)
from headrace_workers.features.applications.definition import MAX_ENUM, Problem, Test, Turn, Variable
from headrace_workers.features.applications.file import MAX_DATASET_BYTES, MAX_FILE_BYTES, SECTIONS
from tools.reference.markdown_text import anchor, beginning, block, paragraphs, table
from tools.reference.schema_tables import fields

_EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "apps" / "ticket-triage.toml"
_INTRODUCTION: Final = """\
An application is a use case in one file: a model, a prompt with variables, and all else that a job would say. Jobs name
the application, and bring the variables. The file is TOML, and its name is the application's: `apps/ticket-triage.toml`
is `ticket-triage`. The sections `[problem]`, `[model]` and `[prompt]` are required.

An error in a file names the file, the line, what is wrong and what to do.
"""
_VERSIONS: Final = """\
A version is the SHA-256 of all that the file resolves to: its sections, the text of each message, and the SHA-256 of
the dataset. Comments, the order of keys and the ends of lines do not count. The ledger numbers the versions of an
application from 1.

`headrace apps pull` writes a version as a file, with the text of the messages in it. Reading that file gives the same
version. The dataset is not in the ledger: `sha256` in `[test]` stands for it.
"""
_FILES: Final = f"""\
`file` of a message and `dataset` of `[test]` name files beside the application's file, or in folders beside it. A path
with `..`, an absolute path, or a link that leads out of the folder is refused. The application's file and each message
have up to {MAX_FILE_BYTES:,} bytes, a dataset up to {MAX_DATASET_BYTES // 1024**2} MiB, and a version up to
{MAX_VALUE_BYTES:,} bytes without its dataset.
"""
_MODEL: Final = """\
Give `name` or `chain`. Jobs may set fields of `sampling` and the lane themselves. An application cannot be the model of
another one.
"""
_FORMAT: Final = "The field `output` of a job: see [get parsable answers](../how-to/get-parsable-answers.md)."
_PROMPT: Final = f"""\
`[[prompt.messages]]` stands above each message, of which there are 1 to {MAX_MESSAGES}. Messages that a job brings
follow the application's. A line feed at the end of a text is left out.
"""
_VARIABLES: Final = f"""\
`[prompt.variables.NAME]` stands above each variable, of which there are up to {MAX_VARIABLES}. A name has up to 64 of
a-z, 0-9 and `_`, and begins with a letter. A job that misses a variable without a default, brings an unknown one, or
brings a value of another type is refused with the variable's name: `"5"` is no integer. No message needs to read a
variable: keep one that callers still send.
"""
_REVIEW: Final = f"""\
`[[review.rules]]` stands above each rule, of which there are up to {MAX_RULES}. They take the place of the deployment's
[review rules](review-rules.md) for the answers of this application's jobs. `rules = []` in `[review]` lets no rule draw
them. Held jobs enter the review queue in any case.
"""
_TEST: Final = """\
The fields of a row that are called like variables are their values. See [evaluations](evaluations.md) for the formats
of datasets.
"""
_SYNTAX: Final = (
    (
        "`{{ ticket }}`",
        'the value of a variable. Texts stand as they are; other values are written as JSON: `5`, `true`, `["a"]`',
    ),
    (
        '`{% if product == "till" and count > 1 %}` … `{% elif urgent %}` … `{% else %}` … `{% endif %}`',
        "conditions, with `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, `and`, `or`, `not`",
    ),
    ('`{{ "now" if urgent else "later" }}`', "a condition within a text"),
    (
        "`{% for note in notes %}` … `{% else %}` … `{% endfor %}`",
        "each item of a list; the part after `else` is for an empty list",
    ),
    ('`{% for note in notes if note != "" %}`', "some of the items"),
    (
        "`{{ loop.index }}`",
        "the number of the round, from 1; also `loop.index0`, `loop.length`, `loop.first`, `loop.last`",
    ),
    ("`{{ ticket | trim }}`", "a filter"),
    ("`{# … #}`", "a comment"),
    ("`{% raw %}` … `{% endraw %}`", "text with braces that stands as it is"),
)
_FILTERS: Final = (
    ("`upper`, `lower`, `trim`", "text", "the text in upper or lower case, or without white space at its ends"),
    ("`length`", "text or list", "the number of characters or items"),
    ("`first`, `last`", "text or list", "the first or last item; an empty text where there is none"),
    ('`join(", ")`', "list", "the items with this text between them"),
    ('`default("none", true)`', "text", "this text in place of an empty one"),
    ("`round(2)`", "number", "the number with so many digits; a whole number without the brackets"),
    ("`tojson`", "any", "the value as JSON, a text in quotes"),
)
_NOT_THERE: Final = """\
A line that holds only a tag leaves no empty line. There is nothing else: no look-up by dot or index, no call, no
`set`, `macro`, `include` or `import`, and no arithmetic. headrace refuses such a template when it reads the file.

A value is data. Template code in a variable is written as it stands, and a model's own marks in it stay text.
"""
_BOUNDS: Final = f"""\
| bound | limit |
|---|---|
| a message, rendered | {MAX_TEXT:,} characters |
| all messages, rendered | {MAX_VALUE_BYTES:,} characters |
| a list | {MAX_ITEMS} items of up to {MAX_SHORT_TEXT:,} characters |
| blocks in blocks, and expressions in expressions | {MAX_DEPTH} |
| steps of all templates of an application | {MAX_STEPS:,} |

Steps bound the time that rendering takes, to about 5 ms at most. They are counted when the file is read, for the
longest values that the variables may have:

- Each part of a template (a text, a tag, a variable, a constant) costs {PART_STEPS} steps, once.
- Whenever they are reached, a text, a tag and a round of a loop cost 1 step, an expression {EXPRESSION_STEPS}, a
  look-up such as `loop.last` {LOOK_UP_STEPS} more, and a number or list that is written {WRITTEN_STEPS} more.
- A filter costs 4 to 20 more, and 1 for each item of a list and each {WRITTEN} characters that it may give; `upper`
  and `lower` cost 1 for each {CASED} characters.
- A comparison costs 1 more for each {COMPARED} characters that it may read, `in` a text 1 for each {SEARCHED}.
- What stands in a loop is reached as often as the list may have items; in a loop within a loop, as often as both
  numbers multiplied.

If a template takes too many steps, give its lists and texts a smaller `max_length`. [Templates of
applications](../explanation/application-templates.md) says why there are these bounds.
"""
_MODELS: Final[Mapping[str, Any]] = {
    "name": {"type": "string", "description": "A served model, by its alias."},
    "chain": {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": MAX_CHAIN,
        "description": "Several models, each of which answers where those before it cannot.",
    },
}


def page() -> str:
    """Return the page of the application file, in Markdown."""
    prompt = {**_schema(Turn)}
    prompt["properties"] = {
        **{name: field for name, field in prompt["properties"].items() if name != "name"},
        "file": {"type": "string", "description": "The name of a file with the text, instead of `text`."},
        "name": prompt["properties"]["name"],
    }
    return paragraphs(
        beginning("The application file", "the fields of applications", _INTRODUCTION),
        "## Example",
        block("toml", _EXAMPLE.read_text("utf-8")),
        "## `[problem]`",
        _table(_schema(Problem)),
        "## `[model]`",
        _of_job("model"),
        _MODEL,
        "## `[prompt]`",
        _PROMPT,
        _table({**prompt, "required": ["role"]}),
        "### Variables",
        _VARIABLES,
        _table(_of_values(_schema(Variable))),
        "## `[format]`",
        _FORMAT,
        *(part for name in list(SECTIONS)[1:] for part in (f"## `[{name}]`", _of_job(name))),
        "## `[review]`",
        _REVIEW,
        "## `[test]`",
        _table({**_schema(Test), "required": ["dataset"]}),
        _TEST,
        "## Files beside it",
        _FILES,
        "## Versions",
        _VERSIONS,
        "## The language of templates",
        "A message is a template in a part of [Jinja2](https://jinja.palletsprojects.com):",
        table(("write", "for"), _SYNTAX),
        table(("filter", "takes", "gives"), _FILTERS),
        _NOT_THERE,
        "## Bounds",
        _BOUNDS,
    )


def _schema(cls: type[Problem | Turn | Variable | Test]) -> dict[str, Any]:
    return cls.model_json_schema()


def _of_values(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a variable with its values in short: their type says what they may be."""
    for name, short in {"enum": {"type": "array", "maxItems": MAX_ENUM}, "default": {}}.items():
        schema["properties"][name] = {**short, "description": schema["properties"][name]["description"]}
    return schema


def _of_job(section: str) -> str:
    """Return the table of a section whose keys are fields of a job."""
    properties = GenerationJob.model_json_schema()["properties"]
    rows: dict[str, Any] = {}
    for name, field in SECTIONS[section].items():
        rows[name] = {key: value for key, value in properties[field].items() if key != "default"}
        rows[name]["description"] = rows[name]["description"].removesuffix(" Needs `knowledge`.")
    if section == "model":
        rows |= _MODELS
    return _table({"properties": rows})


def _table(schema: Mapping[str, Any]) -> str:
    properties = dict(schema["properties"])
    if "criteria" in properties:
        short = {"type": "array", "items": {"$ref": "criterion"}, "maxItems": MAX_CRITERIA}
        properties["criteria"] = {**short, "description": properties["criteria"]["description"]}
    return fields({**schema, "properties": properties}, _link)


def _link(name: str) -> str:
    return "[criterion](criteria.md)" if name == "criterion" else f"[{name}](events.md{anchor(name)})"
