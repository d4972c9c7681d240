"""Bounds on sizes. Larger values are refused with a reason that names the bound."""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, FailFast, StringConstraints
from pydantic.types import Strict

MAX_VALUE_BYTES = 1_000_000  # a job as it comes in; Apache Kafka's own default is 1 MiB for a whole batch
# An event that we write ourselves: the longest text, were each of its characters an escape of six bytes, and the rest.
MAX_EVENT_BYTES = 4 * 1024 * 1024
MAX_TEXT = 200_000  # characters of one prompt, message, output, reference or context
MAX_SHORT_TEXT = 2_000  # characters of a question, a pattern or a reason
MAX_QUESTION = 20_000  # characters of what a judge is asked, with what a template brought into it
MAX_MESSAGES = 128
MAX_STOPS = 8
MAX_CHAIN = 8  # models of a job, each of which answers where those before it cannot
MAX_ATTEMPTS = 64  # that a receipt lists
MAX_COSTED = 64  # models whose cost a receipt lists
MAX_CRITERIA = 16
MAX_UNSUPPORTED = 100  # sentences of an answer that a score names
MAX_METADATA = 32  # entries
MAX_COMPLETION_TOKENS = 32_768
MAX_DIMENSIONS = 16_384  # of a vector
MAX_VARIABLES = 64  # of an application
MAX_ITEMS = 100  # of a variable that is a list
DEAD_PREVIEW_BYTES = 65_536  # of a refused record's value, kept in its dead letter

# NUL cannot be stored as text by PostgreSQL, and no prompt needs one.
NO_NUL: Final = r"^[^\x00]*$"
_ALIAS: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_MODEL_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,63}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$"
_TENANT: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_LABEL: Final = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
_FUNCTION: Final = r"^[A-Za-z0-9_-]{1,64}$"
_NAME: Final = r"^[a-z][a-z0-9_]{0,63}$"
_HAZARD: Final = r"^[a-z][a-z0-9_-]{0,63}(/[a-z0-9_-]{1,63})?$"
_DIGEST: Final = r"^[0-9a-f]{12}$"
SHA256: Final = r"^[0-9a-f]{64}$"
_BASE64: Final = r"^[A-Za-z0-9+/]*={0,2}$"
_JOB_ID: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_URL: Final = r"^https?://[!-~]{1,2040}$"
_LANGUAGE: Final = r"^[a-z]{2,3}$"
SPEAKER: Final = r"^[^\s<|\\/>\x00]+$"  # nothing that could be a model's marks, as OpenAI's API has it
_SUFFIX: Final = r"^[a-z0-9][a-z0-9-]{0,39}$"
_FILE_ID: Final = r"^file-[A-Za-z0-9_-]{1,59}$"
_MODULE: Final = r"^[A-Za-z0-9_.]{1,100}$"
_ENDPOINT_ID: Final = r"^[A-Za-z0-9_-]{1,36}$"

# The meaning of each pattern, in words.
PATTERNS: Final[dict[str, str]] = {
    NO_NUL: "holds the character NUL (U+0000), which no database takes as text",
    _ALIAS: "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    _MODEL_NAME: "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit; '@' and a label or "
    "a version may follow an application's name",
    _TENANT: "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    _LABEL: "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter",
    _FUNCTION: "must be 1 to 64 of A-Z, a-z, 0-9, '_' and '-'",
    _NAME: "must be 1 to 64 of a-z, 0-9 and '_', beginning with a letter",
    SPEAKER: "must have no blanks and none of '<', '>', '|', '/' and '\\'",
    _HAZARD: "must be 1 to 64 of a-z, 0-9, '_' and '-', beginning with a letter; after a '/' as many more",
    _DIGEST: "must be 12 of 0-9 and a-f",
    _BASE64: "must be base64 (RFC 4648, section 4)",
    _JOB_ID: "must be a job's id: a UUID in lower case, with hyphens",
    _URL: "must be a URL that begins with https://, in ASCII and without spaces, of 2,048 characters at most",
    _LANGUAGE: "must be a language's code of ISO 639: two or three small letters",
    _SUFFIX: "must be 1 to 40 of a-z, 0-9 and '-', beginning with a letter or digit",
    _FILE_ID: "must be the id of an uploaded file, such as file-abc123",
    _MODULE: "must be 1 to 100 of A-Z, a-z, 0-9, '_' and '.'",
    _ENDPOINT_ID: "must be an endpoint's id, as `headrace webhooks list` shows it",
}


def _integral(value: Any) -> Any:
    """Return 5.0 as the whole number 5: JSON has one kind of number, and JSON Schema's integers are those without
    fraction.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Comes last in an annotation of an int, so that its bounds are checked after it.
INTEGRAL: Final = BeforeValidator(_integral)

# For lists in what strangers send: half a million wrong items are one problem, and not seconds of listing them.
FAIL_FAST: Final = FailFast()

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT, pattern=NO_NUL), Strict()]
NonEmptyText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=NO_NUL), Strict()]
ShortText = Annotated[str, StringConstraints(max_length=MAX_SHORT_TEXT, pattern=NO_NUL), Strict()]
Question = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUESTION, pattern=NO_NUL), Strict()]
Digest = Annotated[str, StringConstraints(pattern=_DIGEST), Strict()]
Key = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL), Strict()]
Alias = Annotated[str, StringConstraints(pattern=_ALIAS), Strict()]
# An alias, or the name of an application: `ticket-triage`, `ticket-triage@production`, `ticket-triage@3`.
ModelName = Annotated[str, StringConstraints(pattern=_MODEL_NAME), Strict()]
Tenant = Annotated[str, StringConstraints(pattern=_TENANT), Strict()]
Label = Annotated[str, StringConstraints(pattern=_LABEL), Strict()]
FunctionName = Annotated[str, StringConstraints(pattern=_FUNCTION), Strict()]  # as OpenAI's API names functions
Name = Annotated[str, StringConstraints(pattern=_NAME), Strict()]
Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$"), Strict()]
HazardName = Annotated[str, StringConstraints(pattern=_HAZARD), Strict()]
Base64 = Annotated[str, StringConstraints(pattern=_BASE64), Strict()]
WrittenJobId = Annotated[str, StringConstraints(pattern=_JOB_ID), Strict()]
Url = Annotated[str, StringConstraints(pattern=_URL), Strict()]
LanguageCode = Annotated[str, StringConstraints(pattern=_LANGUAGE), Strict()]
Suffix = Annotated[str, StringConstraints(pattern=_SUFFIX), Strict()]
FileId = Annotated[str, StringConstraints(pattern=_FILE_ID), Strict()]
ModuleName = Annotated[str, StringConstraints(pattern=_MODULE), Strict()]
EndpointId = Annotated[str, StringConstraints(pattern=_ENDPOINT_ID), Strict()]
