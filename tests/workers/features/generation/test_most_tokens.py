"""The most tokens that a call may use, whoever counts them: what providers bill is never more than what is reserved."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.workers.models.engines.test_prompts import FAMILIES, of_family
from tests.workers.runtime.bridge.records import generation
from tokenizers import normalizers

from headrace_schemas import GenerationJob, Message
from headrace_schemas.codec import encode_value
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.pipeline.stage import ReadBytes
from headrace_workers.features.generation.stage import most_tokens
from headrace_workers.models.convert_gguf import build_tokenizer, read_tokenizer
from headrace_workers.models.engines.prompts import ChatTemplate, Prompts
from headrace_workers.models.registry import read_card
from headrace_workers.models.structured.tools import with_format

QWEN = Path(__file__).parents[2] / "models" / "engines" / "templates" / "qwen2.5.jinja"
TEXTS = {
    "a word": "Hello",
    "nothing but blanks": " \n\t" * 50,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪" * 40,
    "Chinese": "龘靐齉爩鱻麤" * 60,
    "Korean in parts": "각힣" * 80,
    "zero width": "a\u200b\u200c\u200d\u2060\ufeff" * 60,
    "longer by NFC": "\u0958\U0001d160\ufb2c" * 60,
    "longer by NFKC": "\ufdfa\u3300" * 60,
    "half of a pair": "\U0010ffff\U000e0001" * 60,
    "words of templates": "<|im_start|>system\n<|im_end|>[INST]</s>" * 20,
}
TOOL = Tool(
    name="find", description="Finds 龘 \u0958\U0001d160" * 9,
    parameters={"type": "object", "properties": {"\u0958" * 20: {"enum": ["🏳️‍🌈", "\ufdfa"]}, "b": {"type": "integer"}}},
)  # fmt: skip
FORMAT = JsonSchemaFormat(json_schema={"type": "object", "properties": {"\u0958\ufdfa" * 30: {"type": "string"}}})
CALLED = (
    Message(role="user", content="When?"),
    Message(role="assistant", content="", tool_calls=(ToolCall(id="c1", name="find", arguments='{"b":1,"c":[1,2]}'),)),
    Message(role="tool", content="\u0958", tool_call_id="c1"),
)


def of_qwen(like: Prompts, gguf: Path) -> Prompts:
    from gguf import GGUFReader

    fields = {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}
    tokenizer = build_tokenizer(read_tokenizer(fields, gguf.name))
    template = ChatTemplate(QWEN.read_text(encoding="utf-8"))
    return Prompts(replace(like._card, context_length=100_000), tokenizer, template)


@pytest.fixture(
    scope="module", params=[*FAMILIES, "NFC", "NFKC", "SmolLM2", pytest.param("Qwen", marks=pytest.mark.slow)]
)
def prompts(request: pytest.FixtureRequest, tiny_home: Path) -> Prompts:
    """A way from messages to tokens. Of each family a byte is a token, which is the most; two normalize the text."""
    tiny = Prompts.load(tiny_home / "models" / "tiny", read_card(tiny_home / "models" / "tiny"))
    if request.param == "Qwen":
        return of_qwen(tiny, request.getfixturevalue("qwen_gguf"))
    if request.param == "SmolLM2":
        folder = request.getfixturevalue("smollm2_home") / "models" / "smollm2-135m-instruct"
        return Prompts.load(folder, read_card(folder))
    found = of_family(tiny, request.param if request.param in FAMILIES else "ChatML")
    if request.param not in FAMILIES:
        found.tokenizer.normalizer = getattr(normalizers, request.param)()
    return found


def used(prompts: Prompts, job: GenerationJob) -> int:
    """The tokens of a call whose answer is as long as it may be."""
    counted = prompts.count(with_format(job.conversation, job), job.offer)
    assert isinstance(counted, int), counted
    return counted + job.sampling.max_tokens


def most(job: GenerationJob) -> int:
    return most_tokens(job, ReadBytes(len(encode_value(job))))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_prompt_has_more_tokens_than_are_reserved(prompts: Prompts, text: str) -> None:
    for job in (
        generation(prompt=text),
        generation(prompt=None, messages=(Message(role="system", content=text), Message(role="user", content=text))),
        generation(prompt=text, output=FORMAT),
        generation(prompt=text, tools=(TOOL,), tool_choice="required"),
    ):
        assert used(prompts, job) <= most(job)


def test_calls_and_their_results_are_reserved_for(prompts: Prompts) -> None:
    job = generation(prompt=None, messages=CALLED, tools=(TOOL,), tool_choice="required")
    assert used(prompts, job) <= most(job)


def test_the_reservation_of_a_short_prompt_is_near_to_what_it_may_use() -> None:
    job = generation(prompt="Hello!!", model="a" * 60, idempotency_key="k" * 60)
    job = job.model_copy(update={"sampling": job.sampling.model_copy(update={"max_tokens": 500})})
    assert 7 + 500 < most(job) <= 7 + 500 + 160
    assert most_tokens(job, ReadBytes(9_999, 1_000)) >= most(job) + 1_000
