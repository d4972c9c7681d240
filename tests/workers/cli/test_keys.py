import json

import pytest
from tests.workers.cli.conftest import Call

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.access.commands import KEY_FILE, first_key
from headrace_workers.features.access.store.keys import ApiKeys, read_token


def test_a_key_is_made_shown_once_and_listed_without_itself(call: Call, ledger: Ledger):
    code, out, err = call("keys", "create", "the shop", "--tenant", "shop", "--scope", "jobs:write", "--expires", "90d")
    assert (code, "once" in err) == (0, True)
    token = read_token(out.strip())
    row = ledger.of(ApiKeys).find([token.id])[token.id]
    assert (row.tenant, row.name, row.scopes, row.digest) == ("shop", "the shop", ("jobs:write",), token.digest)
    assert row.expires_at - row.made_at == 90 * 86_400_000
    code, out, _ = call("keys", "list")
    assert code == 0
    assert (token.id in out, token.text in out) == (True, False)
    assert ("the shop" in out, "valid" in out) == (True, True)
    (listed,) = [json.loads(line) for line in call("keys", "list", "--tenant", "shop", "--json")[1].splitlines()]
    assert (listed["id"], listed["state"], listed["revoked_at"]) == (token.id, "valid", None)
    assert call("keys", "list", "--tenant", "other", "--json")[1] == ""


def test_a_key_has_all_scopes_but_metrics_unless_it_is_said(call: Call, ledger: Ledger):
    made = json.loads(call("keys", "create", "--json")[1])
    assert made["tenant"] == "default"
    assert "jobs:write" in made["scopes"]
    assert "metrics" not in made["scopes"]
    assert read_token(made["key"]).id == made["id"]


def test_a_key_is_rotated_and_revoked(call: Call, ledger: Ledger):
    old = json.loads(call("keys", "create", "a", "--tenant", "shop", "--json")[1])
    code, out, err = call("keys", "rotate", old["id"], "--grace", "1h")
    assert (code, f"{old['id']} expires in 1h" in err) == (0, True)
    new = ledger.of(ApiKeys).find([read_token(out.strip()).id])[read_token(out.strip()).id]
    assert (new.tenant, new.name, list(new.scopes)) == ("shop", "a", old["scopes"])
    assert call("keys", "revoke", new.id)[0] == 0
    assert "revoked" in call("keys", "list")[1]
    code, _, err = call("keys", "rotate", new.id)
    assert (code, "is revoked already" in err) == (2, True)
    assert call("keys", "revoke", new.id)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "--scope", "dreams:read"), "jobs:write"),
        (("create", "--tenant", "a b"), "cannot name a tenant"),
        (("create", "--expires", "soon"), "not a duration"),
    ],
)
def test_what_is_wrong_is_told(call: Call, ledger: Ledger, arguments: "tuple[str, ...]", words: str):
    code, out, err = call("keys", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert ledger.of(ApiKeys).listed() == []


def test_a_stack_has_one_key_for_as_long_as_it_opens(call: Call, ledger: Ledger, tmp_path):
    home, url = tmp_path / ".headrace", f"sqlite:///{tmp_path / '.headrace' / 'ledger.db'}"
    first = first_key(home, url)
    assert read_token((home / KEY_FILE).read_text().strip()) == first
    assert (home / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert first_key(home, url) == first
    assert "metrics" in ledger.of(ApiKeys).find([first.id])[first.id].scopes
    ledger.of(ApiKeys).revoke(first.id)
    second = first_key(home, url)
    assert second != first
    (home / KEY_FILE).write_text("nonsense")
    assert first_key(home, url) not in (first, second)


def test_many_keys_are_listed_by_their_newest(call: Call, ledger: Ledger):
    made = [json.loads(call("keys", "create", "--tenant", "shop", "--json")[1])["id"] for _ in range(3)]
    code, out, err = call("keys", "list", "--limit", "2", "--json")
    assert (code, len(out.splitlines())) == (0, 2)
    assert {json.loads(line)["id"] for line in out.splitlines()} < set(made)
    assert "only the 2 newest are shown" in err
    assert "are shown" not in call("keys", "list", "--limit", "3")[2]


def test_a_key_that_nobody_was_shown_is_none(call: Call, ledger: Ledger, full_disk):
    """Where standard output takes nothing: it would be there for ever, and its holder nobody."""
    old = json.loads(call("keys", "create", "--tenant", "shop", "--json")[1])["id"]
    before = ledger.of(ApiKeys).listed()
    for words in (("create", "--tenant", "shop"), ("rotate", old, "--grace", "0s"), ("create", "--json")):
        with full_disk():
            code, _, err = call("keys", *words)
        assert (code, "shown to nobody, and nothing was changed" in err) == (1, True)
        assert ledger.of(ApiKeys).listed() == before


@pytest.mark.parametrize(
    "arguments",
    [
        "keys rotate nothing", "keys revoke nothing", "webhooks remove nothing --yes", "limits remove nothing",
        "batch cancel nothing", "review unlabel --criterion nothing --yes", "status nothing",
        "cancel nothing", "cache explain nothing", "providers revoke nothing", "dead list 7",
    ],
)  # fmt: skip
def test_every_command_says_with_one_exit_code_that_there_is_no_such_thing(call: Call, ledger: Ledger, arguments: str):
    code, out, err = call(*arguments.split())
    assert (code, out) == (1, ""), err
