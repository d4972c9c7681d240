"""All bounds on sizes, in one place. What is larger is refused with a reason that names the bound."""

from typing import Annotated

from pydantic import StringConstraints
from pydantic.types import Strict

MAX_VALUE_BYTES = 1_000_000  # a job as it comes in; Apache Kafka's own default is 1 MiB for a whole batch
# An event that we write ourselves: the longest text, were each of its characters an escape of six bytes, and the rest.
MAX_EVENT_BYTES = 4 * 1024 * 1024
MAX_TEXT = 200_000  # characters of one prompt, message, output, reference or context
MAX_SHORT_TEXT = 2_000  # characters of a question, a pattern or a reason
MAX_MESSAGES = 128
MAX_STOPS = 8
MAX_CRITERIA = 16
MAX_METADATA = 32  # entries
MAX_COMPLETION_TOKENS = 32_768
DEAD_PREVIEW_BYTES = 65_536  # of a refused record's value, kept in its dead letter

# NUL cannot be stored as text by PostgreSQL, and no prompt needs one.
_NO_NUL = r"^[^\x00]*$"

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT, pattern=_NO_NUL), Strict()]
NonEmptyText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=_NO_NUL), Strict()]
ShortText = Annotated[str, StringConstraints(max_length=MAX_SHORT_TEXT, pattern=_NO_NUL), Strict()]
Key = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_NO_NUL), Strict()]
Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$"), Strict()]
Tenant = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), Strict()]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$"), Strict()]
