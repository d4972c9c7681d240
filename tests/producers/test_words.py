import pytest
from kafka.errors import KafkaConnectionError, KafkaTimeoutError, MessageSizeTooLargeError, UnknownProducerIdError

from headrace_producers.words import words
from headrace_schemas.errors import ConfigurationError, Unavailable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KafkaTimeoutError("Unable to bootstrap"), "KafkaTimeoutError: Unable to bootstrap"),
        (KafkaConnectionError("refused: [Error 111]\n at a:1"), "KafkaConnectionError: refused: [Error 111] at a:1"),
        (KafkaTimeoutError(), "KafkaTimeoutError"),
        (UnknownProducerIdError(), "[Error 59] UnknownProducerIdError"),
        (MessageSizeTooLargeError("9 bytes: no"), "[Error 10] MessageSizeTooLargeError: 9 bytes: no"),
        (TimeoutError("Timeout\n reading"), "TimeoutError: Timeout reading"),
        (ConnectionError(), "ConnectionError"),
        (ValueError(None), "ValueError"),
        (OSError(2, "no such file"), "FileNotFoundError: [Errno 2] no such file"),
        (Unavailable("the ledger did not answer"), "the ledger did not answer"),
        (ConfigurationError("set it"), "ConfigurationError: set it"),
    ],
)
def test_kind_and_message_are_told_once_each(error: BaseException, said: str) -> None:
    assert words(error) == said


def test_a_long_message_is_cut() -> None:
    assert len(words(ValueError("x" * 1_000))) == 300
