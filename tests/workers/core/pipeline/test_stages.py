from typing import get_args

from pydantic import TypeAdapter
from tests.workers.core.ledger.test_work import settings
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_schemas.job import AnyJob
from headrace_schemas.limits import Name
from headrace_workers.core.feature import installed
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.features.cache.stage import stages
from headrace_workers.runtime.worker.parts import WorkerParts

STAGES = Pipeline().stages


def test_names_fit_the_contract_and_the_table():
    for stage in STAGES:
        assert TypeAdapter(Name).validate_python(stage.name) == stage.name
        assert len(stage.name) <= 32
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_every_kind_of_job_has_a_first_stage():
    assert {kind for stage in STAGES for kind in stage.takes} >= set(get_args(AnyJob))


def test_what_stages_need_is_built_by_one_part_each(tmp_path):
    with sqlite_ledger(tmp_path) as ledger:
        worker = WorkerParts(
            name="w", settings=settings(), pipeline=Pipeline(), ledger=ledger, progress=Progress(), model="echo"
        )
        of_features = [name for feature in installed() for name in feature.parts(worker)]
        assert len(of_features) == len(set(of_features))
        with_verifier = (*STAGES, *stages(verifier="judge"))
        assert {*of_features, "cancelled", "leaving"} == {
            need for stage in with_verifier for need in (*stage.needs, "generator")
        }
