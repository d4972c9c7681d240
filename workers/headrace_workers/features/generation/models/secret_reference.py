"""References to secrets: where a key lies, never the key itself."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import environment

_REFERENCE: Final = re.compile(r"(env):([A-Za-z_][A-Za-z0-9_]*)|(file):(/.+)")
_MOST_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class SecretReference:
    """An environment variable (`env:OPENAI_API_KEY`) or a file (`file:/run/secrets/openai`) that holds a secret."""

    kind: Literal["env", "file"]
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference in a text. Raise ValueError, which does not quote the text: it may be the key itself."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise ValueError(
                "must say where the key is, as env:VARIABLE or file:/absolute/path; a key itself has no place here"
            )
        return cls("env", found[2]) if found[1] else cls("file", found[4])

    def read(self) -> str:
        """Return the secret as it is now. Raise ConfigurationError where it is missing or empty."""
        if self.kind == "env":
            value = environment().get(self.name, "")
            missing = f"the environment variable {self.name} is not set"
        else:
            missing = f"{self.name} cannot be read, or is empty"
            try:
                with Path(self.name).open("rb") as file:
                    value = file.read(_MOST_BYTES).decode()
            except (OSError, UnicodeDecodeError):
                value = ""
        if not (value := value.strip()):
            raise ConfigurationError(
                f"{missing}: it should hold the key of a provider that a model in models.toml needs"
            )
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"the key in {self} has characters that no HTTP header can carry")
        return value

    def __str__(self) -> str:
        """Return the reference as `parse` reads it."""
        return f"{self.kind}:{self.name}"
