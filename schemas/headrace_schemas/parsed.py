"""Answers as values of your own models. Pure."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from headrace_schemas.errors import Unparsable
from headrace_schemas.reasons import describe

M = TypeVar("M", bound=BaseModel)


def parsed_as(model: type[M], text: str) -> M:
    """Return an answer as a value of a pydantic model. Raise Unparsable, which names the place and quotes no value."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        steps = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
        place = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
        raise Unparsable(f"the answer is no {model.__name__}: {describe(error)}", place=place) from None
