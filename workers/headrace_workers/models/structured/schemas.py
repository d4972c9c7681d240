"""Which formats a job may ask for. A format that cannot be had is refused at admission, with its place.

A format is taken when llguidance can hold a model to it, as far as it knows its keywords (see `grammar`), and
jsonschema-rs can check the whole of it. Compiling is bounded in time and memory, since it runs in a process of its own.
"""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any, Final

import jsonschema_rs

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import (
    MAX_CHOICES,
    GrammarFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_schemas.tool import Offer, Tool
from headrace_workers.models.structured.compiling import CompileAllowance, compile_apart
from headrace_workers.models.structured.grammar import grammar_of, grammar_of_call
from headrace_workers.models.structured.json_schema import (
    OutsideReference,
    Step,
    Subschemas,
    dialect_of,
    parts_of_same_value,
    pointer,
)
from headrace_workers.models.structured.tools import Dialect, arguments_schema, as_json
from headrace_workers.models.structured.validity import LARGE_PATTERN, check_of

MAX_CHAIN: Final = 200  # subschemas that apply to one value because the one before them does
MAX_PATTERNS: Final = 1_000  # different ones, where a large one counts as ten
_SMALL_PATTERN: Final = 20_000
_OF_A_LARGE: Final = 10
_LONGEST: Final = 1_000  # characters of a place
_KEPT: Final = 1_024  # formats whose result is kept
_LOOK_AROUND: Final = re.compile(r"\(\?<?[=!]")
_AT: Final = re.compile(r"while processing \S*?#(/\S*)")

_Fault = tuple[Step, str]  # where it is in the schema, and what it is

_results: OrderedDict[bytes, _Fault | None] = OrderedDict()  # by digest; the oldest is forgotten first
_lock: Final = Lock()
_allowance: Final = CompileAllowance()


def check_format(output: OutputFormat, tenant: str) -> None:
    """Raise InvalidRecord where a format cannot be had. The first time it takes up to about a second; see `is_known`.

    Raise FormatsTooSlow where new formats of this tenant took too long lately, and Unavailable where the machine is too
    busy to tell.
    """
    match output:
        case JsonSchemaFormat(json_schema=schema):
            text = output.as_json
            fault = _result(tenant, text, lambda: _fault_of(schema, text) or _of_compiler(tenant, grammar_of(output)))
            _raise(fault, "output.json_schema")
        case RegexFormat() | GrammarFormat():
            grammar = grammar_of(output)
            fault = _result(tenant, grammar, partial(_of_compiler, tenant, grammar))
            _raise(fault, "output.pattern" if isinstance(output, RegexFormat) else "output.grammar")


def check_tools_schemas(tools: Sequence[Tool], tenant: str, output: OutputFormat | None = None) -> None:
    """Raise InvalidRecord, which names the tool, where no arguments can be held to its parameters. All are compiled
    together, so that many tools take no longer than one schema, and with the format of an answer without a call.

    Raise FormatsTooSlow and Unavailable as `check_format` does.
    """
    texts: dict[str, str] = {}
    for index, tool in enumerate(tools):
        param = f"tools[{index}].parameters"
        kind = tool.parameters.get("type", "object")
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            raise InvalidRecord(
                f"the parameters of the tool {tool.name} have the type {as_json(kind)}: arguments are an object, so "
                'say "type": "object"',
                param=f"{param}/type",
                code="invalid_value",
            )
        schema = arguments_schema(tool)
        texts[param] = text = as_json(schema)
        _raise(_result(tenant, f"part {text}", partial(_fault_of, schema, text)), param)
    together = "".join(f"{tool.name} {text}\n" for tool, text in zip(tools, texts.values(), strict=True))
    if output is not None:
        together += output.model_dump_json()
    fault = _result(tenant, together, partial(_fault_of_calls, tenant, tools, output))
    if fault is not None and fault[0]:  # the first step is the number of a tool
        _raise((fault[0][1:], fault[1]), f"tools[{fault[0][0]}].parameters")
    _raise(fault, "tools")


def is_known(output: OutputFormat) -> bool:
    """Return True where `check_format` answers at once: the format is simple, or was checked before."""
    match output:
        case JsonSchemaFormat():
            return _digest(output.as_json) in _results
        case RegexFormat() | GrammarFormat():
            return _digest(grammar_of(output)) in _results
    return True


def _raise(fault: _Fault | None, param: str) -> None:
    if fault is not None:
        where, words = pointer(fault[0])[:_LONGEST], " ".join(fault[1].split())
        place = f"{param}, at {where}" if where else param
        raise InvalidRecord(f"{place}: {words}", param=param + where, code="invalid_value")


def _result(tenant: str, text: str, check: Callable[[], _Fault | None]) -> _Fault | None:
    """Return the result of a check, run once for each text, within the tenant's allowance."""
    digest = _digest(text)
    with _lock:
        if digest in _results:
            _results.move_to_end(digest)
            return _results[digest]
    _allowance.check(tenant)
    began = time.thread_time()
    fault = check()
    _allowance.use(tenant, time.thread_time() - began)
    with _lock:
        _results[digest] = fault
        if len(_results) > _KEPT:
            _results.popitem(last=False)
    return fault


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _fault_of_calls(tenant: str, tools: Sequence[Tool], output: OutputFormat | None) -> _Fault | None:
    """Return why the tools cannot be compiled together, with the number of the tool that is at fault by itself."""
    offer = Offer(tuple(tools), required=output is None, beside_format=output is not None)
    together = _of_compiler(tenant, grammar_of_call(offer, Dialect.HERMES, output))
    if together is None:
        return None
    for index, tool in enumerate(tools):
        alone = JsonSchemaFormat.model_construct(json_schema=arguments_schema(tool))
        if (fault := _of_compiler(tenant, grammar_of(alone))) is not None:
            return (str(index), *fault[0]), fault[1]
    return (), together[1]


def _fault_of(schema: dict[str, Any], text: str) -> _Fault | None:
    """Return the first fault of a schema, whose JSON is `text`. The checks that cost little come first."""
    dialect = dialect_of(schema)
    if dialect is None:
        return ("$schema",), "it names none of the drafts 4, 6, 7, 2019-09 and 2020-12"
    subschemas = Subschemas(schema)
    try:
        fault = (
            _of_references(subschemas) or _of_keywords(subschemas) or _of_loops(subschemas) or _of_patterns(subschemas)
        )
    except OutsideReference as error:
        return (), str(error)
    return fault or _of_validator(schema, text)


def _of_references(subschemas: Subschemas) -> _Fault | None:
    for node in subschemas.nodes:  # grows while targets are found
        try:
            subschemas.targets(node)
        except OutsideReference as error:
            keyword = next(name for name in ("$ref", "$dynamicRef", "$recursiveRef") if isinstance(node.get(name), str))
            return (*subschemas.steps[id(node)], keyword), str(error)
    return None


def _of_keywords(subschemas: Subschemas) -> _Fault | None:
    values = 0
    for node in subschemas.nodes:
        steps = subschemas.steps[id(node)]
        for keyword in ("then", "else"):
            if keyword in node and "if" not in node:
                return (*steps, keyword), "it stands without if"
        if isinstance(node.get("enum"), list):
            values += len(node["enum"])
            if values > MAX_CHOICES:
                return (*steps, "enum"), f"with it there are more than {MAX_CHOICES} values of enums"
    return None


def _of_loops(subschemas: Subschemas) -> _Fault | None:
    """Return the first subschema that applies to a value because it applies to the same value already."""
    done: dict[int, int] = {}  # the longest chain from a subschema on
    for start in subschemas.nodes:
        path = [(start, iter(_same_value(subschemas, start)), 1)] if id(start) not in done else []
        open_ = {id(start)}
        longest = [0]
        while path:
            node, parts, _ = path[-1]
            part = next(parts, None)
            if part is None:
                path.pop()
                open_.discard(id(node))
                done[id(node)] = longest.pop() + 1
                if longest:
                    longest[-1] = max(longest[-1], done[id(node)])
                continue
            if id(part) in open_:
                return subschemas.steps[id(part)], "it refers to itself for the very same value, without end"
            if id(part) in done:
                longest[-1] = max(longest[-1], done[id(part)])
            else:
                path.append((part, iter(_same_value(subschemas, part)), len(path)))
                open_.add(id(part))
                longest.append(0)
            if len(path) + longest[-1] > MAX_CHAIN:
                return subschemas.steps[id(node)], f"more than {MAX_CHAIN} subschemas apply one through the other"
    return None


def _same_value(subschemas: Subschemas, node: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [part for _, part in parts_of_same_value(node)] + [target for _, target in subschemas.targets(node)]
    return [part for part in parts if isinstance(part, dict)]


def _of_patterns(subschemas: Subschemas) -> _Fault | None:
    seen: set[str] = set()
    weight = 0
    for node in subschemas.nodes:
        named = node.get("patternProperties")
        found: list[tuple[Step, Any]] = [(("pattern",), node.get("pattern"))]
        found += [(("patternProperties", item), item) for item in (named if isinstance(named, dict) else ())]
        for steps, pattern in found:
            if not isinstance(pattern, str) or pattern in seen:
                continue
            seen.add(pattern)
            place = (*subschemas.steps[id(node)], *steps)
            if not _compiles(pattern, LARGE_PATTERN):
                if _LOOK_AROUND.search(pattern):
                    return (
                        place,
                        "the pattern looks around; only patterns without look-around are matched in linear time",
                    )
                return place, "the pattern is no regular expression that is matched in linear time, or is too large"
            weight += 1 if _compiles(pattern, _SMALL_PATTERN) else _OF_A_LARGE
            if weight > MAX_PATTERNS:
                return place, f"with it there are more than {MAX_PATTERNS} patterns, where a large one counts as ten"
    return None


def _compiles(pattern: str, size: int) -> bool:
    try:
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions(size_limit=size))
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _of_validator(schema: dict[str, Any], text: str) -> _Fault | None:
    try:
        check_of(schema, text)
    except jsonschema_rs.ValidationError as error:
        return tuple(map(str, error.instance_path)), f"it is no JSON Schema: {error.message.splitlines()[0][:300]}"
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        return (), f"it cannot be used: {str(error)[:300]}"
    return None


def _of_compiler(tenant: str, grammar: str) -> _Fault | None:
    """Return why a grammar cannot be compiled, with the place that llguidance names. The tenant pays for the time."""
    words, seconds = compile_apart(grammar)
    _allowance.use(tenant, seconds)
    if words is None:
        return None
    named = _AT.search(words)
    steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in named[1].split("/")[1:]) if named else ()
    return steps, words.split("\n  while processing")[0]
