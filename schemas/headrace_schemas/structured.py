"""CloudEvents in structured mode: from a value that holds the whole event to the headers and value of binary mode.

Specs: cloudevents/spec v1.0.2, JSON event format, and the Kafka protocol binding, section 3.3. Pure.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from typing import Any

from headrace_schemas import content_type
from headrace_schemas.envelope import ATTRIBUTES
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.limits import MAX_EVENT_BYTES

_Headers = Sequence[tuple[str, bytes | None]]


def to_binary(headers: _Headers, value: bytes | None) -> tuple[_Headers, bytes | None]:
    """Return headers and value as in binary mode, which most records have. Raise InvalidRecord when neither mode fits.

    Attributes in the value are the event's: `ce_` headers beside it are copies at best, and left out.
    """
    if not content_type.is_structured(headers):
        return headers, value
    event = _event(value)
    declared = event.pop("datacontenttype", None)
    if declared is not None and (not isinstance(declared, str) or content_type.check(declared) != content_type.JSON):
        raise InvalidRecord(f"datacontenttype must be {content_type.JSON}")
    data = _data(event)
    others = [pair for pair in headers if not pair[0].startswith("ce_") and not content_type.is_name(pair[0])]
    return [*_attributes(event), (content_type.NAME, content_type.JSON.encode()), *others], data


def _event(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise InvalidRecord("the record has no value")
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidRecord(f"the value has {len(value)} bytes, more than the {MAX_EVENT_BYTES} that are taken")
    try:
        event = json.loads(value.decode("utf-8", "surrogatepass"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InvalidRecord(f"value: is no CloudEvent in JSON: {error.msg} at {place}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"value: is no CloudEvent in JSON that can be read ({type(error).__name__})") from error
    if not isinstance(event, dict):
        raise InvalidRecord("value: in structured mode it must be a CloudEvent as a JSON object")
    return event


def _data(event: dict[str, Any]) -> bytes | None:
    """Return the event's data, taken out of it: as JSON, or from base64."""
    data, encoded = event.pop("data", None), event.pop("data_base64", None)
    if data is not None and encoded is not None:
        raise InvalidRecord("both data and data_base64 are given: a CloudEvent holds one of them")
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise InvalidRecord("data_base64 is not base64") from error
    if data is None:
        return None
    # A lone surrogate is passed on to where the data is checked, which names its field.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _attributes(event: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for name, value in event.items():
        if isinstance(value, str):
            yield f"ce_{name}", value.encode("utf-8", "surrogatepass")
        elif name in ATTRIBUTES and value is not None:
            raise InvalidRecord(f"{name} must be text in a CloudEvent")
