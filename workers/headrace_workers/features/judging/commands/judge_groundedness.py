"""`headrace judge groundedness`: the error of the rules, or of a verifier, on sentences of your own."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import put_json, say

_EVIDENCE: Final = ("evidence", "context", "premise")
_CLAIM: Final = ("claim", "sentence", "hypothesis")
_SUPPORTED: Final = ("supported", "label")


def groundedness(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="sentences with labels, as JSON lines")],
    verify: Annotated[
        str | None, typer.Option("--verify", metavar="MODEL", help="measure this verifier instead of the rules")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show how well the rules of `grounded`, or a verifier, tell supported sentences from others.

    A line is `{"evidence": …, "claim": …, "supported": true}`. No ledger is needed.

    With --verify, a model is asked about each sentence, as HEADRACE_GROUNDED_VERIFY would ask it. Exit code 1: the
    sentences do not show that it is better than chance. Workers with this home then refuse it.

    Example: `headrace judge groundedness claims.jsonl --verify sentence-transformers:./my-nli-model`
    """
    from headrace_workers.features.cache.commands.bench import progress, tell_quality
    from headrace_workers.features.cache.commands.labelled_questions import read_labelled
    from headrace_workers.features.judging.groundedness.claim_quality import LabelledClaim, measure_claims
    from headrace_workers.features.knowledge.commands.knowledge import embedder_here
    from headrace_workers.features.knowledge.rerankers.load_verifier import load_verifier_here
    from headrace_workers.runtime.settings import home_of

    claims = [
        LabelledClaim(each.first, each.second, each.holds)
        for each in read_labelled(file, _EVIDENCE, _CLAIM, _SUPPORTED)
    ]
    verifier = None if verify is None else load_verifier_here(home_of(), verify)
    with progress("verifying", len(claims)) as advance:
        try:
            found = measure_claims(verifier, claims, embedder_here(), advance)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    if verify is not None:
        tell_quality(home_of(), verify, found, as_json)
    if as_json:
        put_json({**asdict(found), "is_chance": found.is_chance})
    else:
        say(found.sentence)
