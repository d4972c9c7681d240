"""Sign-in of the person who runs `headrace up`, and the end of these sessions."""

import getpass
from contextlib import suppress

from headrace_schemas.errors import HeadraceError
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.console.store import ConsoleSessions, Secret


def offered_address(gateway: str, ledger_url: str, key_id: str) -> str:
    """Return an address that signs in once, with the rights of this key. Sessions and tokens of an earlier `headrace
    up` end.
    """
    token, ledger = Secret.new(), Ledger.at(ledger_url)
    try:
        sessions = ledger.of(ConsoleSessions)
        sessions.end_of_up()
        sessions.offer(token.digest, _user(), key_id)
    finally:
        ledger.close()
    return f"{gateway}/console/sign-in?token={token.text}"


def end_sessions(ledger_url: str) -> None:
    """End the sessions that `headrace up` began, if the ledger answers: the next `headrace up` ends them, too."""
    ledger = Ledger.at(ledger_url)
    try:
        with suppress(HeadraceError):
            ledger.of(ConsoleSessions).end_of_up()
    finally:
        ledger.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # nobody has this user id
        return "you"
