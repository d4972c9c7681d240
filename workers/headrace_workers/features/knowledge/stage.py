"""The stage in which embedding jobs get their vectors."""

from typing import Final

from headrace_schemas import EmbeddingJob
from headrace_workers.core.pipeline.stage import EMBEDDER_ROLE, Stage, Weight
from headrace_workers.features.knowledge.embed_step import embed

# By workers that hold an embedder already. Looking up is quick and comes first, so that groups are short: who looks up,
# or moderates in the same process, waits for one.
EMBED: Final = Stage(
    name="embed",
    order=10,
    takes=(EmbeddingJob,),
    step=embed,
    weight=Weight.ENCODER,
    done_by=EMBEDDER_ROLE,
    needs=("embedder", "embedder_alias"),
    quantum=0.5,
)
