"""The format of an answer in the words of its prompt: a model that knows it gives better answers than one that is only
held to it. Pure.
"""

from collections.abc import Sequence
from typing import Final

from headrace_schemas import GenerationJob, Message
from headrace_schemas.output_format import ChoiceFormat, GrammarFormat, JsonObjectFormat, OutputFormat, RegexFormat

_ALONE: Final = "Write nothing before or after it."


def with_format(messages: Sequence[Message], job: GenerationJob) -> tuple[Message, ...]:
    """Return a conversation that names the format which its answer must have, once.

    A system message at the beginning ends with it, so that jobs of one format share the beginning of their prompts;
    else the last turn of the user does, since not every template knows system messages.
    """
    words = None if job.output is None or job.offer.required else _in_words(job.output)
    if words is None or not messages:
        return tuple(messages)
    if job.offer:
        words = f"Unless you call a tool: {words}"
    users = [place for place, each in enumerate(messages) if each.role == "user"]
    if messages[0].role != "system" and not users:
        return (*messages, Message(role="user", content=words))
    place = 0 if messages[0].role == "system" else users[-1]
    changed = messages[place].model_copy(update={"content": f"{messages[place].content}\n\n{words}"})
    return (*messages[:place], changed, *messages[place + 1 :])


def _in_words(output: OutputFormat) -> str | None:
    """Return the instruction for a format; None where the job wants none."""
    match output:
        case JsonObjectFormat():
            return f"Answer with a JSON object. {_ALONE}"
        case ChoiceFormat(choices=choices):
            listed = "\n".join(f"- {each}" for each in choices)
            return f"Answer with one of these texts, exactly as it stands here. {_ALONE}\n{listed}"
        case RegexFormat(pattern=pattern):
            return f"Answer with text that this regular expression matches as a whole. {_ALONE}\n{pattern}"
        case GrammarFormat(grammar=grammar):
            return f"Answer with text that this grammar (in Lark's notation) derives. {_ALONE}\n{grammar}"
        case _ if not output.in_prompt:
            return None
    named = f" of the format {output.name}" if output.name else ""
    return f"Answer with JSON{named} that is valid by this JSON Schema. {_ALONE}\n{output.as_json}"
