"""Rendering a model's own chat template."""

import json
from pathlib import Path

import pytest

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError, PromptTooLong
from headrace_workers.features.generation.engines.prompts import ChatTemplate, InvalidTemplate, load_chat_template

HELLO = (Message(role="system", content="Be brief."), Message(role="user", content="Hi <b> & é"))
CHATML = (
    "{% for message in messages %}\n"
    "    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + eos_token + '\\n' }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_chatml_is_rendered_as_transformers_does_it() -> None:
    """Blocks are trimmed, nothing is escaped, and the assistant's turn is opened (recorded from Transformers 5)."""
    rendered = ChatTemplate(CHATML, eos="<|im_end|>").render(HELLO)
    assert rendered == (
        "<|im_start|>system\nBe brief.<|im_end|>\n\n<|im_start|>user\nHi <b> & é<|im_end|>\n\n<|im_start|>assistant\n"
    )


def test_the_functions_that_templates_use_are_there() -> None:
    """tojson without HTML escapes, break, the date, and generation blocks."""
    source = (
        "{% for m in messages %}{{ m | tojson }}{% break %}{% endfor %}"
        "{% generation %}{{ strftime_now('%Y') | length }}{% endgeneration %}"
    )
    assert ChatTemplate(source).render(HELLO[1:]) == '{"role": "user", "content": "Hi <b> & é"}4'


def test_a_model_that_may_think_is_asked_to_answer_at_once() -> None:
    """Its thoughts would stand in the answer, and take the place that `max_tokens` leaves."""
    # How the template of Qwen 3 ends.
    source = (
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>' }}{%- endif %}"
    )
    assert ChatTemplate(source).render(HELLO) == "<think>\n\n</think>"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[9]['content'].x }}",
        "{{ 1 // 0 }}",
        "{{ 'a' + 1 }}",
    ],
)
def test_a_template_that_fails_is_an_error_of_the_request(source: str) -> None:
    """A refusal, a missing value or a wrong type: permanent, with the template's reason."""
    with pytest.raises(InvalidTemplate, match="refuses these messages"):
        ChatTemplate(source).render(HELLO)


@pytest.mark.parametrize(
    "source",
    ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ raise_exception.__globals__.x }}"],
)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    """Templates come with models, from strangers."""
    with pytest.raises(InvalidTemplate):
        ChatTemplate(source).render(HELLO)


def test_what_a_template_writes_is_bounded() -> None:
    """A template that writes without end is stopped, and so is a prompt that is too long."""
    with pytest.raises(PromptTooLong, match="more than 100 characters"):
        ChatTemplate("{% for i in range(99999) %}xxxxxxxxxx{% endfor %}").render(HELLO, max_chars=100)


def test_a_broken_template_is_refused_when_the_model_is_loaded() -> None:
    """Not at the first job."""
    with pytest.raises(ConfigurationError, match="no valid Jinja2"):
        ChatTemplate("{% for %}")


def write_config(folder: Path, **entries: object) -> None:
    """A tokenizer_config.json with these entries."""
    (folder / "tokenizer_config.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    "entry",
    ["{{ eos_token }}!", [{"name": "tool", "template": "no"}, {"name": "default", "template": "{{ eos_token }}!"}]],
)
def test_the_template_is_read_from_the_tokenizers_config(tmp_path: Path, entry: object) -> None:
    """One template or several with names; special tokens as text or as objects."""
    write_config(tmp_path, chat_template=entry, eos_token={"content": "<end>"})
    assert load_chat_template(tmp_path).render(HELLO) == "<end>!"


def test_a_template_in_a_file_of_its_own_counts_first(tmp_path: Path) -> None:
    """Newer versions of Transformers write it so."""
    write_config(tmp_path, chat_template="old")
    (tmp_path / "chat_template.jinja").write_text("new")
    assert load_chat_template(tmp_path).render(HELLO) == "new"


def test_a_model_without_a_template_is_refused(tmp_path: Path) -> None:
    """A base model does not converse."""
    write_config(tmp_path)
    with pytest.raises(ConfigurationError, match="has no chat template"):
        load_chat_template(tmp_path)
