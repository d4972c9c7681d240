"""Commands that are imported when they are called. Lists of commands show the help without importing them."""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

MARKUP: Final = "markdown"


class LazyGroup(TyperGroup):
    """A group of commands. It lists a command without importing its module, and imports the module for a call."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name of the command that is called, the command itself, and the arguments that are left."""
        name, command, left = super().resolve_command(ctx, args)
        return name, command and self.loaded(command), left

    def loaded(self, command: Any) -> Any:
        """Return a command of this group with its parameters."""
        return command.load() if isinstance(command, _Listed) else command

    def load(self) -> None:
        """Import all commands of this group and of the groups in it."""
        for name, command in self.commands.items():
            self.commands[name] = self.loaded(command)
            if isinstance(command, LazyGroup):
                command.load()


class _Listed(TyperCommand):
    """A command as lists and completion show it."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name)
        self.target = target

    @property
    def help(self) -> str:
        module, _, function = self.target.partition(":")
        spec = find_spec(module)
        text = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
        first = re.search(rf'^def {function}\(.*?"""(.+?)(?:\n\s*\n|""")', text, re.DOTALL | re.MULTILINE)
        return cleandoc(first[1]) if first else ""

    @help.setter
    def help(self, text: str | None) -> None:
        """Ignore the text that Click sets: the help is read when it is shown."""

    def load(self) -> Any:
        module, _, function = self.target.partition(":")
        app = typer.Typer(add_completion=False, rich_markup_mode=MARKUP, pretty_exceptions_enable=False)
        app.command(self.name)(getattr(import_module(module), function))
        return typer.main.get_command(app)


def add_commands(root: Any, commands: Mapping[str, str], groups: Mapping[str, str]) -> None:
    """Add commands to a group: functions as `module:function` by the words of their call, such as `keys create`.

    `groups` has the help of each group in them.
    """
    for words, target in commands.items():
        group = root
        *outer, name = _prefixes(words)
        for prefix in outer:
            group = group.commands.setdefault(prefix.split()[-1], _group(prefix, groups[prefix]))
        group.add_command(_Listed(name.split()[-1], target))


def _prefixes(words: str) -> Iterator[str]:
    """Yield `a`, `a b` and `a b c` of `a b c`."""
    parts = words.split()
    return (" ".join(parts[: length + 1]) for length in range(len(parts)))


def _group(words: str, text: str) -> LazyGroup:
    return LazyGroup(name=words.rsplit(maxsplit=1)[-1], help=text, no_args_is_help=True, rich_markup_mode=MARKUP)
