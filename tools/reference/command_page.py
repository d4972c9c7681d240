"""The page of all commands, from the command line application itself."""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, NamedTuple, get_args

from headrace_workers.wiring.command_line import all_commands
from tools.reference.markdown_text import (
    anchor,
    beginning,
    block,
    code,
    paragraphs,
    sentence,
    table,
)

_PROGRAM: Final = "headrace"
_TYPES: Final = {"int": "a whole number", "float": "a number", "Path": "a path", "str": ""}
_INTRODUCTION: Final = """\
`headrace COMMAND --help` shows what this page shows. Data goes to standard output, messages to standard error.
`--json` prints JSON with the field names of the [events](events.md): times are RFC 3339, and durations end in `_ms`.

Commands find a running `headrace up` by themselves, through `$HEADRACE_HOME/run.json`. The variables of the
[configuration](../configuration.md) name other services.
"""
_EXIT_CODES: Final = (
    ("0", "The command succeeded."),
    ("1", "The command failed: a job died, was refused or cancelled, or a service does not answer."),
    ("2", "The call is wrong: an unknown option, a wrong value, or a file with wrong lines. Nothing was done."),
    ("130", "The command was interrupted by Ctrl-C."),
    ("141", "The reader of the output went away, as `| head` does."),
    ("143", "The command was terminated by SIGTERM."),
)
_OPTIONS: Final = (
    ("`--version`", "Show the version and exit."),
    ("`--install-completion`", "Install completion for the current shell: bash, zsh, fish or PowerShell."),
    ("`--show-completion`", "Print the script for completion."),
    ("`--help`, `-h`", "Show the help of a command and exit."),
)
_DEFAULT_OF = re.compile(r"\s*\[(HEADRACE_[A-Z_]+)\]$")
_EXAMPLES = re.compile(r"Examples?:\s+(?P<calls>`[^`]+`(?:(?:,|;)?\s+`[^`]+`)*)\.?\s*")


class Called(NamedTuple):
    """A command and what it is called by: `webhooks add`."""

    name: str
    command: Any


def commands() -> Iterator[Called]:
    """Yield all commands in the order of the help; a group's commands follow the group."""
    yield from _within(all_commands())


def _within(group: Any, before: str = "") -> Iterator[Called]:
    for name, command in group.commands.items():
        called = Called(f"{before}{name}", command)
        yield called
        if is_group(command):
            yield from _within(command, f"{called.name} ")


def is_group(command: Any) -> bool:
    """Return True if a command is a group of commands."""
    return hasattr(command, "commands")


def page() -> str:
    """Return the page of all commands, in Markdown."""
    every = list(commands())
    head = beginning("Command line", "the help texts of the commands", _INTRODUCTION)
    top = [called for called in every if " " not in called.name]
    overview = table(
        ("command", "what it does"),
        ((f"[`{name}`]({anchor(f'headrace {name}')})", _first_line(command)) for name, command in top),
    )
    return paragraphs(
        head,
        overview,
        "## Options of all commands",
        table(("option", "meaning"), _OPTIONS),
        "## Exit codes",
        table(("code", "meaning"), _EXIT_CODES),
        *(_section(called) for called in every),
    )


def _section(called: Called) -> str:
    level = "##" if " " not in called.name else "###"
    heading = f"{level} `{_PROGRAM} {called.name}`"
    if is_group(called.command):
        return paragraphs(heading, *_texts(called.command))
    parameters = called.command.params
    arguments = [parameter for parameter in parameters if _is_argument(parameter)]
    options = [parameter for parameter in parameters if not _is_argument(parameter)]
    return paragraphs(
        heading,
        block("text", _usage(called.name, arguments, options)),
        *_texts(called.command),
        table(
            ("argument", "meaning"),
            ((code(_metavar(argument)), sentence(argument.help or "")) for argument in arguments),
        ),
        table(("option", "value", "default", "meaning"), map(_option, options)),
    )


def _texts(command: Any) -> Iterator[str]:
    """Yield the paragraphs of a command's help; examples as a block of their own."""
    for part in re.split(r"\n\s*\n", (command.help or "").strip()):
        text = re.sub(r"\s+", " ", part)
        if (examples := _EXAMPLES.fullmatch(text)) is not None:
            yield block("sh", "\n".join(re.findall(r"`([^`]+)`", examples["calls"])))
        else:
            yield text


def _first_line(command: Any) -> str:
    return re.split(r"\n\s*\n", (command.help or "").strip())[0]


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _usage(name: str, arguments: list[Any], options: list[Any]) -> str:
    words = [_PROGRAM, name]
    words += (f"{option.opts[0]} {_metavar(option)}" for option in options if option.required)
    if any(not option.required for option in options):
        words.append("[OPTIONS]")
    words += (
        word if argument.required else f"[{word.strip('[]')}]" for argument in arguments if (word := _metavar(argument))
    )
    return " ".join(words)


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.opts[0].lstrip("-").replace("-", "_").upper()
    several = parameter.nargs == -1 and "..." not in name
    return f"{name}..." if several else name


def _option(parameter: Any) -> tuple[str, str, str, str]:
    names = ", ".join(code(opt) for opt in parameter.opts)
    if parameter.secondary_opts:
        names += " / " + ", ".join(code(opt) for opt in parameter.secondary_opts)
    text = parameter.help or ""
    variable = _DEFAULT_OF.search(text)
    default = "required" if parameter.required else code(variable[1]) if variable else _default(parameter)
    return names, _values(parameter), default, sentence(_DEFAULT_OF.sub("", text))


def _values(parameter: Any) -> str:
    """Return what an option's value may be; the empty text for a flag."""
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    (inner,) = get_args(annotation)[:1] or (annotation,)
    if isinstance(inner, type) and issubclass(inner, Enum):
        return ", ".join(code(str(enum.value)) for enum in inner)
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    kind = _TYPES.get(getattr(inner, "__name__", ""), "")
    if least is not None and most is not None:
        return f"{kind} from {least:,} to {most:,}"
    if least is not None:
        return f"{kind} from {least:,}"
    if most is not None:
        return f"{kind} up to {most:,}"
    return code(parameter.metavar) if parameter.metavar else kind or "a text"


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.secondary_opts:
        return code((parameter.opts if value else parameter.secondary_opts)[0])
    if isinstance(value, Enum):
        value = value.value
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return code(str(value)) if plain and value != "" else ""
