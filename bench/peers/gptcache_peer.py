"""GPTCache as its documentation sets it up: SQLite, FAISS, its distance evaluation, its own threshold."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

VERSION = "0.1.44"


def served(cached: Mapping[str, int], asked: Sequence[str], vectors: Any) -> Iterator[int | None]:
    """For each text that is asked, the number of what is served of what is cached; None where nothing is.

    `vectors.embed` gives the vectors. ImportError where GPTCache is not installed.
    """
    from gptcache import Cache
    from gptcache.adapter.api import get, put
    from gptcache.manager import CacheBase, VectorBase, get_data_manager
    from gptcache.processor.pre import get_prompt
    from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation

    folder = tempfile.mkdtemp(prefix="headrace-bench-gptcache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # GPTCache writes its index when Python ends
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda text, **_: vectors.embed([text])[0],
        data_manager=get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{folder}/cache.db"),
            VectorBase("faiss", dimension=vectors.dimensions, index_path=f"{folder}/faiss.index"),
        ),
        similarity_evaluation=SearchDistanceEvaluation(),
    )
    for text, number in cached.items():
        put(text, str(number), cache_obj=cache)
    for text in asked:
        answer = get(text, cache_obj=cache)
        yield None if answer is None else int(answer)
