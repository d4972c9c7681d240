import os
import time

from bench.embedding import cpu_seconds, rows, texts

from headrace_workers.testing import HashEmbedder


def test_texts_differ_in_length_and_are_read_whole():
    embedder = HashEmbedder()
    found = texts(300, embedder)
    lengths = {embedder.count_tokens(text) for text in found}
    assert len(set(found)) == 300
    assert max(lengths) <= embedder.max_tokens
    assert len(lengths) > 30


def test_a_process_is_charged_for_what_it_used():
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert abs(cpu_seconds(os.getpid()) - time.process_time()) < 0.1


def test_the_ratio_is_of_cpu():
    found = {row.metric: row for row in rows(100, whole=1.0, as_they_come=2.0, worker=1.2, rate=50.0)}
    assert found["recall worker"].value == 12.0
    assert found["recall worker to the embedder alone, all at once"].holds
