"""What judging adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.admission.check import AdmissionCheck
    from headrace_workers.core.admission.parts import AdmissionParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.judging.api import evaluations

    return (evaluations.router,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.judging.commands import judge

    return (judge.register,)


def _admission(_parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.judging.admission import CriteriaCheck

    return CriteriaCheck()


FEATURE = Feature(name="judging", routers=_routers, commands=_commands, admission=_admission)
