"""Applications as jobs name them: a name with a label or a version, variables, and the version that answered."""

from typing import Annotated, Any, Final

from pydantic import Discriminator, Field, StringConstraints, Tag, ValidationInfo, WithJsonSchema
from pydantic.functional_validators import WrapValidator
from pydantic.types import Strict
from pydantic_core import PydanticCustomError

from headrace_schemas.attributes import LARGEST, kind_of_value
from headrace_schemas.limits import (
    INTEGRAL,
    MAX_ITEMS,
    MAX_SHORT_TEXT,
    MAX_TEXT,
    MAX_VARIABLES,
    NO_NUL,
    SHA256,
    Alias,
    Label,
    Name,
    ShortText,
    Text,
)
from headrace_schemas.model import OutgoingValue, Value

PRODUCTION: Final = "production"  # the label of a name without one
FROM_LEDGER: Final = "ledger"  # the context of a validation that reads what headrace wrote


def _kind(value: Any) -> str | None:
    return "list" if isinstance(value, list | tuple) else kind_of_value(value)


VariableValue = Annotated[
    Annotated[bool, Strict(), Tag("boolean")]
    | Annotated[int, Strict(), INTEGRAL, Tag("whole")]
    | Annotated[float, Field(ge=-LARGEST, le=LARGEST), Strict(), Tag("number")]
    | Annotated[Text, Tag("text")]
    | Annotated[tuple[ShortText, ...], Field(max_length=MAX_ITEMS), Tag("list")],
    Discriminator(
        _kind,
        custom_error_type="variable_type",
        custom_error_message="must be text, a number, true or false, or a list of texts",
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_TEXT, "pattern": NO_NUL},
                {"type": "number", "minimum": -LARGEST, "maximum": LARGEST},
                {"type": "boolean"},
                {
                    "type": "array",
                    "maxItems": MAX_ITEMS,
                    "items": {"type": "string", "maxLength": MAX_SHORT_TEXT, "pattern": NO_NUL},
                },
            ]
        }
    ),
]
Variables = Annotated[dict[Name, VariableValue], Field(max_length=MAX_VARIABLES)]


class ApplicationVersion(OutgoingValue):
    """The version of an application that a job was resolved with."""

    name: Annotated[Alias, Field(description="The application.")]
    version: Annotated[int, Field(ge=1, description="The number of the version."), INTEGRAL]
    digest: Annotated[
        str, StringConstraints(pattern=SHA256), Field(description="The SHA-256 of all that the version is.")
    ]
    label: Annotated[Label | None, Field(description="The label that the job named, if it named one.")] = None

    def __str__(self) -> str:
        """Return the name with the number: `ticket-triage@3`."""
        return f"{self.name}@{self.version}"


class Resolution(Value):
    """The version that a job of the ledger was resolved with. Its first `turns` messages are the application's."""

    application: ApplicationVersion
    turns: Annotated[int, Field(ge=0)]


def _of_headrace(value: Any, read: Any, info: ValidationInfo) -> Any:
    if value is not None and not isinstance(value, Resolution) and info.context != FROM_LEDGER:
        raise PydanticCustomError("extra_forbidden", "Extra inputs are not permitted")
    return read(value)


# Senders cannot set it: to them it is an unknown field.
LedgerResolution = Annotated[Resolution | None, WrapValidator(_of_headrace)]
