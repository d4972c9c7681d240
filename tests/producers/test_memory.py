from headrace_producers import MemoryProducer
from headrace_schemas import EvaluationJob, ExactMatch, GenerationJob


def test_jobs_and_cancellations_can_be_listed():
    producer = MemoryProducer()
    first = producer.generate(prompt="Hello")
    second = producer.evaluate(input="a", output="b", criteria=[ExactMatch()])
    producer.cancel(first)
    assert [(job_id, type(job)) for job_id, job in producer.jobs] == [(first, GenerationJob), (second, EvaluationJob)]
    assert producer.cancelled == [first]
    assert [record.job_id for record in producer.records] == [first, second, first]


def test_labels_can_be_listed():
    producer = MemoryProducer()
    job_id = producer.generate(model="echo", prompt="x")
    label = producer.review(job_id=job_id, criterion="right", label=False, who="ann")
    assert [(review.id, review.job_id, review.label) for review in producer.reviews] == [(label, job_id, False)]
    assert len(producer.jobs) == 1
