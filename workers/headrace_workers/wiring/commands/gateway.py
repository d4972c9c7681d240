"""`headrace gateway`: jobs over HTTP, until SIGTERM."""

import ipaddress
import logging
import signal
from typing import Annotated, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.output import hush_kafka, printable
from headrace_workers.core.log import Action, log
from headrace_workers.runtime.settings import GATEWAY_PORT, Settings

_SHOWN: Final = 80  # characters of an invalid address
READY: Final = "the gateway answers"


def gateway(
    host: Annotated[str, typer.Option("--host", help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="the port; 0: any free port")] = GATEWAY_PORT,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="admit every program of this machine as HEADRACE_TENANT; loopback only"),
    ] = False,
) -> None:
    """Serve the HTTP API until SIGTERM. Any number may run. `headrace keys create` makes keys for it.

    Example: `headrace gateway --host 0.0.0.0`, then `curl -H "Authorization: Bearer $KEY" localhost:8420/v1/jobs/…`
    """
    from headrace_producers.settings import ProducerSettings
    from headrace_workers.cli.connections import is_durable
    from headrace_workers.core.ledger.incidents import noted_start
    from headrace_workers.core.machine import spare_what_is_loaded
    from headrace_workers.core.migrate import require_ledger
    from headrace_workers.runtime.health.watched import watched
    from headrace_workers.wiring.build_gateway import build_gateway
    from headrace_workers.wiring.http_server import Server, listen

    hush_kafka()
    if not host:  # to the system, all addresses that there are
        raise ConfigurationError("--host is empty: name an address, or 0.0.0.0 for all")
    if without_keys and not _is_loopback(host):
        raise ConfigurationError(f"--without-keys would admit everybody who reaches {host}: use it with 127.0.0.1 only")
    settings = Settings.from_env()
    require_ledger(settings.ledger, settings.kafka.prefix)
    try:
        listening = listen(host, port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except UnicodeError:  # of the codec of names
        raise ConfigurationError(f"cannot listen on {printable(host)[:_SHOWN]}: it is not an address") from None
    open_to = ProducerSettings.from_env().tenant if without_keys else None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the server has its own meanwhile, and gives the signal back at its end
    with noted_start(settings.ledger, "gateway"), watched("gateway", settings) as progress:
        services = build_gateway(settings, progress, durable=is_durable(), open_to=open_to)
        where = "http://{}:{}".format(f"[{host}]" if ":" in host else host, listening.getsockname()[1])
        server = Server(
            services, listening, lambda: log("gateway", logging.INFO, Action.STARTED, f"{READY} at {where}")
        )
        spare_what_is_loaded()  # the routes, too
        server.serve_until_told()
    log("gateway", logging.INFO, Action.STOPPED, "the gateway stopped")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
