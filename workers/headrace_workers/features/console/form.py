"""The form of the playground: its fields, the job that they ask for, and the same request as code. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pprint import pformat
from typing import Any, Final, Self

from headrace_schemas import GenerationJob
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.model import Value
from headrace_schemas.output_format import ChoiceFormat, JsonSchemaFormat, RegexFormat

FORMATS: Final = {
    "": "any text",
    "json_object": "a JSON object",
    "json_schema": "JSON of this schema",
    "choice": "one of these lines",
    "regex": "text of this pattern",
}
_ROLES: Final = ("user", "assistant")
# What headrace itself puts into a job, and the request as code leaves out.
_OURS: Final = frozenset({"tenant", "idempotency_key", "resolution"})
_WIDTH: Final = 88


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier turn of the conversation."""

    role: str = "user"
    content: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields as a person wrote them. `nonce` tells two sendings of one form from two forms."""

    question: str = ""
    model: str = ""
    knowledge: str = ""
    format: str = ""
    detail: str = ""  # the schema, choices or pattern of the format
    system: str = ""
    turns: tuple[Turn, ...] = ()
    variables: str = ""  # a line `name = value` for each
    judge: str = ""
    temperature: str = ""
    max_tokens: str = ""
    nonce: str = field(default="", compare=False)

    @classmethod
    def read(cls, fields: Iterable[tuple[str, str]]) -> Self:
        """Return the form that a browser sent."""
        given = list(fields)
        names = set(cls.__slots__) - {"turns"}
        roles = [value for name, value in given if name == "role"]
        contents = [value for name, value in given if name == "content"]
        turns = tuple(Turn(role, text) for role, text in zip(roles, contents, strict=False) if text.strip())
        return cls(**{name: value for name, value in given if name in names}, turns=turns)

    @classmethod
    def of(cls, job: GenerationJob, *, answer: str | None = None) -> Self:
        """Return the form that asks for a job again; with its answer the form that continues the conversation."""
        *before, last = job.conversation
        system = "\n\n".join(message.content for message in before if message.role == "system")
        turns = tuple(Turn(message.role, message.content) for message in before if message.role in _ROLES)
        asked = last.content if last.role == "user" else ""
        if answer is not None:
            turns, asked = (*turns, Turn("user", asked), Turn("assistant", answer)), ""
        rubrics = [criterion.question for criterion in job.criteria if criterion.criterion == "rubric"]
        given = job.sampling.model_fields_set
        return cls(
            question=asked,
            model=job.application or job.first_model,
            knowledge=job.knowledge or "",
            format=job.output.type if job.output and job.output.type in FORMATS else "",
            detail=_detail(job),
            system=system,
            turns=turns,
            variables="\n".join(f"{name} = {_written(value)}" for name, value in job.variables.items()),
            judge=rubrics[0] if rubrics else "",
            temperature=f"{job.sampling.temperature:g}" if "temperature" in given else "",
            max_tokens=str(job.sampling.max_tokens) if "max_tokens" in given else "",
        )

    def document(self) -> dict[str, Any]:
        """Return the job as `POST /v1/jobs` takes it. Raise InvalidRecord for a field that is no value of its kind."""
        document: dict[str, Any] = {"model": self.model}
        if self.system.strip() or self.turns:
            turns = [{"role": turn.role, "content": turn.content} for turn in self.turns]
            system = [{"role": "system", "content": self.system}] if self.system.strip() else []
            question = [{"role": "user", "content": self.question}] if self.question.strip() else []
            document["messages"] = [*system, *turns, *question]
        elif self.question.strip():
            document["prompt"] = self.question
        if self.variables.strip():
            document["variables"] = _variables(self.variables)
        sampling: dict[str, Any] = {}
        if self.temperature.strip():
            sampling["temperature"] = _number(self.temperature, "Temperature", float)
        if self.max_tokens.strip():
            sampling["max_tokens"] = _number(self.max_tokens, "Longest answer", int)
        if sampling:
            document["sampling"] = sampling
        if self.knowledge:
            document["knowledge"] = self.knowledge
        if self.format:
            document["output"] = self._output()
        if self.judge.strip():
            document["criteria"] = [{"criterion": "rubric", "question": self.judge.strip()}]
        return document

    def key(self, document: Mapping[str, Any]) -> str:
        """Return the idempotency key: a second click on the same form with the same content sends no second job."""
        content = json.dumps([self.nonce, document], sort_keys=True)
        return f"console-{hashlib.sha256(content.encode()).hexdigest()[:40]}"

    def with_nonce(self, nonce: str) -> "Form":
        """Return the same form as another one."""
        return replace(self, nonce=nonce)

    def _output(self) -> dict[str, Any]:
        if self.format == "json_schema":
            try:
                return {"type": self.format, "json_schema": json.loads(self.detail)}
            except ValueError as error:
                raise InvalidRecord(f"the schema is not JSON: {error}") from None
        if self.format == "choice":
            return {"type": self.format, "choices": [line.strip() for line in self.detail.split("\n") if line.strip()]}
        return {"type": self.format, **({"pattern": self.detail.strip()} if self.format == "regex" else {})}


def _detail(job: GenerationJob) -> str:
    match job.output:
        case JsonSchemaFormat():
            return json.dumps(job.output.json_schema, ensure_ascii=False, indent=2)
        case ChoiceFormat():
            return "\n".join(job.output.choices)
        case RegexFormat():
            return job.output.pattern
    return ""


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _variables(text: str) -> dict[str, Any]:
    """Return the variables of lines `name = value`; a value that is JSON and no string is taken as that."""
    found: dict[str, Any] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        name, equals, value = line.partition("=")
        if not equals:
            raise InvalidRecord(f"variables: the line {line[:100]!r} has no `=`: write `name = value`")
        try:
            read = json.loads(value)
        except ValueError:
            read = value.strip()
        found[name.strip()] = value.strip() if isinstance(read, dict) or read is None else read
    return found


def _number(text: str, name: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise InvalidRecord(f"{name} is {text[:50]!r}: write a number") from None


@dataclass(frozen=True, slots=True)
class Code:
    """The same request in one language."""

    name: str
    text: str
    hint: str


def code_of(job: GenerationJob, address: str) -> Sequence[Code]:
    """Return the request of a job as code that sends it to a gateway at this address, and to Kafka."""
    request = _changed(job, {name: value for name, value in json.loads(encode_value(job)).items() if name not in _OURS})
    if "sampling" in request:
        request["sampling"] = _changed(job.sampling, request["sampling"])
    flat = {**{name: value for name, value in request.items() if name != "sampling"}, **request.get("sampling", {})}
    if job.tenant != GenerationJob.model_fields["tenant"].default:
        flat["tenant"] = job.tenant
    document = json.dumps(request, ensure_ascii=False, indent=2)
    literal = pformat(request, width=_WIDTH, sort_dicts=False)
    arguments = "".join(f"        {name}={_indented(value)},\n" for name, value in flat.items())
    curl = (
        f'curl {address}/v1/jobs \\\n  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' --data-binary @- <<'JOB'\n{document}\nJOB\n"
    )
    python = (
        f"import httpx\n\nJOB = {literal}\n\n"
        'key = "hr_…"  # an API key of this tenant\n'
        'headers = {"Authorization": f"Bearer {key}"}\n'
        f'with httpx.Client(base_url="{address}", headers=headers, timeout=90) as gateway:\n'
        '    job = gateway.post("/v1/jobs", json=JOB).raise_for_status().json()\n'
        '    ended = gateway.get(f"/v1/jobs/{job[\'id\']}", params={"wait": 60}).raise_for_status().json()\n'
        '    print(ended["state"], ended["end"])\n'
    )
    kafka = (
        "from headrace_producers import Producer\n\n"
        "with Producer.from_env() as producer:  # HEADRACE_KAFKA, or the `headrace up` of this folder\n"
        f"    job_id = producer.generate(\n{arguments}    )\n    print(job_id)\n"
    )
    return (
        Code("curl", curl, "OPENAI_API_KEY is an API key of this tenant."),
        Code("Python", python, "It waits up to a minute for the end."),
        Code(
            "Kafka",
            kafka,
            "It needs the package headrace and no key. The answer comes back as an event in Kafka.",
        ),
    )


def _changed(of: Value, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that do not have their defaults."""
    known = type(of).model_fields
    return {name: value for name, value in fields.items() if getattr(of, name) != known[name].get_default()}


def _indented(value: Any) -> str:
    return pformat(value, width=_WIDTH, sort_dicts=False).replace("\n", "\n        ")
