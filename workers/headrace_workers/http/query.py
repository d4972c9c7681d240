"""Parameters of a URL that its route does not have: they are refused by name, where frameworks pass them over."""

from collections.abc import Callable, Collection
from functools import cache
from inspect import signature
from typing import Any, get_args

from fastapi import APIRouter, Depends, Request, params

from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.openai_errors import Refused
from headrace_workers.http.openai_parameters import Parameters
from headrace_workers.http.path_families import is_native


def only(request: Request, names: Collection[str]) -> None:
    """Raise 400 if the URL has another parameter than these, or one twice: it would be ignored."""
    if not request.scope["query_string"]:
        return
    given = request.query_params
    try:
        Parameters(frozenset(names)).given(given)
        if twice := [name for name in given if len(given.getlist(name)) > 1]:
            raise Refused(f"{twice[0]} is given more than once", code="invalid_value", param=twice[0])
    except Refused as error:
        if is_native(request.url.path):
            raise Refusal(Why.INVALID, str(error)) from None
        raise


async def _only_declared(request: Request) -> None:
    only(request, _declared(request.scope["route"].endpoint))


@cache
def _declared(endpoint: Callable[..., Any]) -> frozenset[str]:
    return frozenset(
        annotation.alias or name
        for name, parameter in signature(endpoint).parameters.items()
        for annotation in get_args(parameter.annotation)[1:]
        if isinstance(annotation, params.Query)
    )


ONLY_DECLARED = Depends(_only_declared)  # of routes whose signature has all that their URL may say


class ReadsItsURL(APIRouter):
    """A router whose routes look themselves at what their URL says; `ONLY_DECLARED` is not asked for them."""
