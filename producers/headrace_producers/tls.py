"""Check that a broker speaks TLS as the settings require. The check is bounded in time, and its errors name the reason.

kafka-python waits for ever for a handshake that is not answered, as by a broker that does not speak TLS at this port,
and calls everything else that can be wrong with it a time-out.
"""

import socket
from time import monotonic

from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import ConfigurationError, Unavailable


def check_tls(kafka: KafkaSettings, timeout: float) -> None:
    """Shake hands with one of the bootstrap servers, where the settings ask for TLS; else do nothing.

    Raises ConfigurationError for a CA file that cannot be used, Unavailable when no server agrees in `timeout` seconds.
    """
    if not kafka.security_protocol.endswith("SSL"):
        return
    import ssl

    try:
        context = ssl.create_default_context(cafile=kafka.ca_file)
    except OSError as error:
        raise ConfigurationError(
            f"HEADRACE_KAFKA_CA_FILE is {kafka.ca_file!r}, which cannot be used: {error}"
        ) from error
    until = monotonic() + timeout
    failures = []
    for server in kafka.bootstrap:
        host, _, port = server.rpartition(":")
        left = max(0.1, until - monotonic())
        try:
            with (
                socket.create_connection((host.strip("[]"), int(port)), timeout=left) as plain,
                context.wrap_socket(plain, server_hostname=host.strip("[]")),
            ):
                return
        except TimeoutError:
            failures.append(f"{server}: no answer within {left:.1f} s; does it speak TLS at this port?")
        except OSError as error:
            failures.append(f"{server}: {error}")
    raise Unavailable(f"no Kafka broker can be reached by TLS: {'; '.join(failures)}")
