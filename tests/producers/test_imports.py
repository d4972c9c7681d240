import subprocess
import sys

import pytest

# `importlib.metadata` is what pydantic loads to build its first validator: none is built before it is used.
HEAVY = {"kafka", "celery", "torch", "sqlalchemy", "numpy", "ctranslate2", "importlib.metadata"}


@pytest.mark.parametrize(
    "statement",
    [
        "import headrace_producers",
        "from headrace_producers import Producer, MemoryProducer, ResultReader, KafkaSettings",
    ],
)
def test_importing_loads_nothing_heavy(statement):
    """kafka-python is loaded when a producer connects, the rest never."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(shown.stdout.split())
    assert "headrace_producers" in shown.stdout.split()


def test_an_unknown_name_is_an_attribute_error():
    import headrace_producers

    assert set(headrace_producers.__all__) <= set(dir(headrace_producers))
    with pytest.raises(AttributeError, match="no attribute 'Consumer'"):
        headrace_producers.Consumer  # noqa: B018
