"""A task of inspect-ai, to be asked of headrace: see docs/reference/evaluations.md."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

ROWS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Peru": "Lima"}


@task
def capitals() -> Task:
    """Does the model name the capital?"""
    rows = [
        Sample(input=f"The capital of {country} is {city}. Name the capital of {country}.", target=city)
        for country, city in ROWS.items()
    ]
    return Task(dataset=rows, solver=generate(), scorer=includes())
