"""One list of fields for rows, values and views: each is made of another by the names of its fields."""

from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


def copied(kind: type[T], source: object, **others: Any) -> T:
    """Return a value of this kind with the source's attributes of the same names, and with `others`."""
    names = (name for name in _names(cast(Any, kind)) if name not in others and hasattr(source, name))
    return kind(**{name: getattr(source, name) for name in names}, **others)


def columns(table: Any, source: object, **others: Any) -> dict[str, Any]:
    """Return the values of a row: the source's fields that are columns of the table, and `others`."""
    names = (name for name in _names(cast(Any, type(source))) if name in table.c)
    return {name: getattr(source, name) for name in names} | others


@lru_cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass, or of a model of pydantic."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else tuple(kind.model_fields)
