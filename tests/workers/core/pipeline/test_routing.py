"""Where jobs go, and what is derived from the stages: queues, roles, and what a worker builds."""

from dataclasses import replace

import pytest
from tests.workers.core.pipeline.test_settle import moderated, output
from tests.workers.runtime.bridge.records import embedding, evaluation, generation, moderation

from headrace_schemas import Cosine, ExactMatch, Grounded, Pairwise, Rubric
from headrace_schemas.criteria import Uncertain
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.recall import CacheMode
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.pipeline.chain import FailedAttempt
from headrace_workers.core.pipeline.routing import Pipeline, ServedModel
from headrace_workers.core.pipeline.stage import MODEL_ROLE, Stage, Weight
from headrace_workers.features.cache import stage as cache
from headrace_workers.features.judging.scores import drawn
from headrace_workers.features.moderation import stage as moderating
from headrace_workers.testing import EchoGenerator

RUBRIC = (Rubric(question="Kind?"),)
PIPELINE = Pipeline(judge_model="big")


def stub(tasks):
    return [Done() for _ in tasks]


def with_stages(*changed):
    """The pipeline with these stages in the place of those of the same names."""
    known = {stage.name: stage for stage in changed}
    return Pipeline([known.get(stage.name, stage) for stage in PIPELINE.stages])


def way(job, event, pipeline=PIPELINE, **asked):
    """Stage, queue and group of where a job goes next."""
    route = pipeline.next_step("id", job, event, **asked)
    return route and (route.stage.name, route.queue, route.group)


def test_the_way_of_a_generation():
    job = generation(criteria=(ExactMatch(),), reference="r")
    assert way(job, job) == ("generate", "model.echo", "generate|echo|256")
    assert way(job, output(), after="generate") == ("moderate", "moderate", "moderate")
    assert way(job, moderated(), after="moderate") == ("judge", "judge", "judge")
    assert way(job, moderated(), after="judge") is None


def test_an_evaluation_goes_to_the_judge_at_once():
    assert way(evaluation(), evaluation()) == ("judge", "judge", "judge")


def test_a_text_goes_where_it_is_embedded_or_moderated_and_no_further():
    assert way(embedding(), embedding()) == ("embed", "embed", "embed")
    assert way(moderation(), moderation()) == ("moderate", "moderate", "moderate")
    for job, stage in ((embedding(), "embed"), (moderation(), "moderate")):
        assert way(job, job, after=stage) is None
        assert Pipeline(judge_model="judge").models_of(job) == frozenset()


def test_what_another_role_does_has_a_queue_and_no_workers_of_its_own():
    """Who looks up embeds too: behind that, so that looking up waits for one group at most."""
    assert PIPELINE.roles == ("recall", "moderate", "generate", "judge", "tune", "deliver")
    assert PIPELINE.queues_of(["recall"], None) == ["ground", "recall", "embed"]
    with pytest.raises(ConfigurationError, match="--role is 'embed'"):
        PIPELINE.roles_of(["embed"])


@pytest.mark.parametrize(
    ("model", "judge", "asked"), [(None, "big", "big"), (None, None, "echo"), ("own", "big", "own")]
)
def test_a_rubric_goes_where_its_model_is(model, judge, asked):
    """The one that it names, else the deployment's judge, else the job's own."""
    job = generation(criteria=(Rubric(question="Kind?", model=model),))
    found = way(job, moderated(), Pipeline(judge_model=judge), after="moderate")
    assert found == ("rubric", f"model.{asked}", f"rubric|{asked}")


def test_a_rubric_that_nobody_answers_goes_to_the_judge():
    job = evaluation(criteria=RUBRIC)
    assert way(job, job, Pipeline()) == ("judge", "judge", "judge")


def test_an_answer_is_looked_up_before_it_is_judged():
    job = generation(criteria=(Grounded(), *RUBRIC))
    assert way(job, moderated(), after="moderate")[:2] == ("ground", "ground")
    assert way(job, moderated(), after="ground")[:2] == ("rubric", "model.big")
    assert way(evaluation(criteria=(Grounded(),)), evaluation(criteria=(Grounded(),)))[:2] == ("ground", "ground")
    assert way(generation(), moderated(), after="moderate")[0] == "judge"


@pytest.mark.parametrize(
    "criterion", [Rubric(question="Kind?", share=0.3), Pairwise(share=0.3), Grounded(share=0.3), Cosine(share=0.3)]
)
def test_who_is_not_drawn_does_not_wait_for_whoever_would_have_answered(criterion):
    asks = "ground" if isinstance(criterion, Grounded | Cosine) else "rubric"
    for number in range(50):
        job = evaluation(criteria=(criterion, ExactMatch()), other="c")
        route = PIPELINE.next_step(str(number), job, job)
        assert route.stage.name == (asks if drawn(str(number), 0.3) else "judge")
    both = evaluation(criteria=(criterion, *RUBRIC))
    assert PIPELINE.next_step("1", both, both, after="ground").stage.name == "rubric"


def test_of_several_models_that_one_is_asked_whose_rubric_was_drawn():
    rare, always = Rubric(question="Kind?", model="a", share=0.3), Rubric(question="True?", model="b")
    for number in range(50):
        first = "a" if drawn(str(number), 0.3) else "b"
        job = evaluation(criteria=(rare, always))
        assert PIPELINE.next_step(str(number), job, job).queue == f"model.{first}"
        for criteria in ((rare, always, *RUBRIC), (*RUBRIC, rare, always), (rare, *RUBRIC)):
            job = evaluation(criteria=criteria)
            assert PIPELINE.next_step(str(number), job, job).queue == "model.a"


def test_who_may_be_judged_when_others_are_waits():
    doubt = Rubric(question="True?", name="true", share=0.001, uncertain=Uncertain(criterion="exact_match"))
    job = evaluation(criteria=(doubt, ExactMatch()))
    assert {PIPELINE.next_step(str(n), job, job).stage.name for n in range(20)} == {"rubric"}


def test_a_stage_between_two_others_takes_only_what_it_asks_for():
    shout = Stage(
        name="shout", order=45, takes=(type(output()),), step=stub, when=lambda job, _: "loud" in job.metadata
    )
    pipeline = Pipeline((shout, *PIPELINE.stages))
    loud = generation(metadata={"loud": "yes"})
    assert way(loud, output(), pipeline, after="generate") == ("shout", "shout", "shout")
    assert way(loud, output(), pipeline, after="shout") == ("moderate", "moderate", "moderate")
    assert way(generation(), output(), pipeline, after="generate") == ("moderate", "moderate", "moderate")
    assert pipeline.roles == ("recall", "moderate", "generate", "shout", "judge", "tune", "deliver")


def test_a_stage_may_send_a_job_back():
    assert way(generation(), output(), after="moderate", to="generate") == (
        "generate", "model.echo", "generate|echo|256",
    )  # fmt: skip
    assert PIPELINE.goes_back("moderate", "generate")
    assert PIPELINE.goes_back("moderate", "moderate")
    assert not PIPELINE.goes_back("generate", "moderate")
    assert way(generation(), output(), after="moderate", to="nowhere") is None


def test_what_one_model_could_not_another_may():
    own = Stage(name="own", order=1, takes=(), step=stub, weight=Weight.MODEL, model=lambda *_: "a",
                chain=lambda _job: ("a", "b"))  # fmt: skip
    pipeline = Pipeline((own,))
    _, found = pipeline.decide(own, "id", generation(), FailedAttempt(model="a"), None)
    assert found is not None
    assert (found.queue, found.group) == ("model.b", "own|b")
    assert pipeline.decide(own, "id", generation(), FailedAttempt(model="b"), None)[1] is None
    generate = PIPELINE.stage("generate")
    assert PIPELINE.decide(generate, "id", generation(), FailedAttempt(model="echo"), None)[1] is None


def test_two_stages_of_one_name_are_refused():
    """Nobody could tell which is meant."""
    with pytest.raises(ConfigurationError, match="one name"):
        Pipeline((PIPELINE.stages[0], PIPELINE.stages[0]))


def test_two_stages_in_one_place_are_refused():
    """Nobody could tell which comes first."""
    with pytest.raises(ConfigurationError, match="embed and other have the same order, 10"):
        Pipeline((*PIPELINE.stages, replace(PIPELINE.stages[0], name="other")))


def test_models_of_a_job_are_all_that_it_needs_on_its_way():
    judged, alone = Pipeline(judge_model="judge"), Pipeline()
    assert judged.models_of(generation()) == {"echo"}
    assert judged.models_of(generation(criteria=RUBRIC)) == {"echo", "judge"}
    assert alone.models_of(generation(criteria=RUBRIC)) == {"echo"}
    assert judged.models_of(evaluation()) == frozenset()
    assert alone.models_of(evaluation(criteria=RUBRIC)) == frozenset()
    assert judged.models_of(evaluation(criteria=(Rubric(question="?", model="own"),))) == {"own"}
    several = evaluation(criteria=(*RUBRIC, Rubric(question="?", model="b"), Pairwise(model="a")))
    assert judged.models_of(several) == {"a", "b"}
    assert way(several, several)[1] == "model.b"


def test_words_name_roles():
    assert PIPELINE.roles_of(["judge", "moderate", "judge"]) == {"judge", "moderate"}
    assert PIPELINE.roles_of(["all"]) == {"recall", "generate", "moderate", "judge", "deliver"}
    assert PIPELINE.roles_of(["all", "tune"]) == {*PIPELINE.roles_of(["all"]), "tune"}


@pytest.mark.parametrize("names", [["cook"], []])
def test_other_words_are_refused_with_those_that_are_known(names):
    with pytest.raises(ConfigurationError, match="moderate, generate, judge, tune, deliver or all"):
        PIPELINE.roles_of(names)


def test_a_generate_worker_needs_a_model():
    # What was begun is finished first.
    assert PIPELINE.queues_of(["moderate", "judge"], None) == ["judge", "moderate", "screen"]
    assert PIPELINE.queues_of(["moderate", "judge"], "echo") == ["judge", "moderate", "screen"]
    assert PIPELINE.queues_of(["moderate", "generate"], "echo") == ["moderate", "screen", "model.echo"]
    with pytest.raises(ConfigurationError, match="--model"):
        PIPELINE.queues_of(["generate"], None)
    assert PIPELINE.queues_of(["generate"], None, remote=True) == []


def test_every_queue_there_is():
    found = [(queue.name, queue.weight, queue.model) for queue in PIPELINE.queues([ServedModel("a")])]
    assert found == [
        ("deliver", Weight.IO, None), ("tune", Weight.IO, None),
        ("judge", Weight.LIGHT, None), ("ground", Weight.ENCODER, None),
        ("moderate", Weight.LIGHT, None), ("recall", Weight.IO, None),
        ("screen", Weight.LIGHT, None), ("embed", Weight.ENCODER, None),
        ("model.a", Weight.MODEL, "a"),
    ]  # fmt: skip


@pytest.mark.parametrize("role", PIPELINE.roles)
def test_every_queue_has_its_steps_and_nothing_more_is_built(role):
    built = []

    def build(name, value):
        return lambda: built.append(name) or value

    needs = {"generator": EchoGenerator("echo")} | dict.fromkeys(
        (
            "moderator",
            "screener",
            "seen_prompts",
            "trusts_system",
            "canaries",
            "shown",
            "cancelled",
            "leaving",
            "tuner",
            "health",
            "embedder",
            "claim_verifier",
            "judge_fault",
            "embedder_alias",
            "cache",
            "retrieval",
            "passage_screener",
            "cache_mode",
            "cache_ttl",
            "max_wait",
            "auditing",
            "webhooks",
            "temperatures",
            "earlier",
            "sender",
            "sealer",
        )
    )
    steps = PIPELINE.steps_of({role}, "echo", {name: build(name, value) for name, value in needs.items()})
    assert {queue for queue, _ in steps} == set(PIPELINE.queues_of({role}, "echo"))
    assert built == {
        "recall": [
            "embedder", "embedder_alias", "cache", "retrieval", "passage_screener", "cache_mode", "cache_ttl",
            "max_wait", "auditing", "claim_verifier",
        ],
        "generate": ["cancelled", "temperatures", "earlier", "generator", "shown", "judge_fault"], "judge": [],
        "moderate": ["screener", "seen_prompts", "trusts_system", "moderator", "canaries"],
        "deliver": ["webhooks", "sender", "sealer"], "tune": ["tuner", "cancelled", "leaving"],
    }[role]  # fmt: skip
    if role == MODEL_ROLE:  # a rubric that asks this model is judged here
        assert set(steps) == {("model.echo", name) for name in ("generate", "decide", "rubric", "audit")}


@pytest.mark.parametrize(
    ("default", "asked", "screened"),
    [(False, None, False), (False, True, True), (True, None, True), (True, False, False)],
)
def test_a_prompt_is_screened_first_where_that_is_asked_for(default, asked, screened):
    """By the job, or else by the deployment; before anything is looked up. Workers that moderate do it."""
    pipeline = with_stages(*cache.stages(CacheMode.EXACT), *moderating.stages(screen=default))
    job = generation(screen=asked)
    first = pipeline.next_step("id", job, job)
    assert first.stage.name == ("screen" if screened else "recall")
    assert pipeline.next_step("id", job, job, after="screen").stage.name == "recall"
    assert "screen" in pipeline.queues_of({"moderate"}, None)
    assert "screen" not in pipeline.roles


@pytest.mark.parametrize("asked", [None, True, False])
def test_a_prompt_of_whom_the_policy_names_is_screened(asked):
    pipeline = with_stages(*moderating.stages(must_screen=lambda tenant: tenant == "shop"))

    def first(tenant):
        job = generation(screen=asked, tenant=tenant)
        return pipeline.next_step("id", job, job).stage.name

    assert first("shop") == "screen"
    assert first("mill") == ("screen" if asked else "generate")
