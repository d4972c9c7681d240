"""Secrets at rest."""

import base64
import os

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.webhooks.signing import Sealer, sealing_keys


def test_what_is_sealed_shows_nothing_and_opens():
    """Each time in another form, and for its own endpoint alone."""
    sealer = Sealer([os.urandom(32)])
    one, two = sealer.seal("whsec_abc", "we_1"), sealer.seal("whsec_abc", "we_1")
    assert one != two
    assert "whsec" not in one
    assert b"whsec" not in base64.b64decode(one.removeprefix("sealed:"))
    assert sealer.open(one, "we_1") == sealer.open(two, "we_1") == "whsec_abc"
    with pytest.raises(ConfigurationError, match="we_2"):
        sealer.open(one, "we_2")


def test_keys_change_without_a_gap():
    """The first seals, all open; without the old one what it sealed stays shut."""
    old, new = os.urandom(32), os.urandom(32)
    kept = Sealer([old]).seal("whsec_abc", "we_1")
    assert Sealer([new, old]).open(kept, "we_1") == "whsec_abc"
    assert Sealer([new]).open(Sealer([new, old]).seal("whsec_abc", "we_1"), "we_1") == "whsec_abc"
    with pytest.raises(ConfigurationError, match="HEADRACE_WEBHOOK_KEY"):
        Sealer([new]).open(kept, "we_1")
    with pytest.raises(ConfigurationError):
        Sealer().open(kept, "we_1")


def test_without_a_key_secrets_are_kept_as_they_are():
    """And go on to be read when there is a key."""
    kept = Sealer().seal("whsec_abc", "we_1")
    assert (kept, Sealer().seals) == ("whsec_abc", False)
    assert Sealer([os.urandom(32)]).open(kept, "we_1") == "whsec_abc"


def test_keys_are_read_and_never_repeated():
    """Thirty-two bytes each, separated by commas or white space."""
    first, second = os.urandom(32), os.urandom(32)
    words = [base64.b64encode(key).decode() for key in (first, second)]
    assert sealing_keys(",".join(words)) == sealing_keys("\n".join(words)) == (first, second)
    assert sealing_keys(None) == sealing_keys("") == ()
    for wrong in ("hunter2hunter2", base64.b64encode(b"short").decode()):
        with pytest.raises(ConfigurationError) as caught:
            sealing_keys(wrong)
        assert wrong not in str(caught.value)
