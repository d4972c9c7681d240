import pytest
from bench import lookup_large
from bench.lookup_large import _asker, across_tenants


def test_nobody_asks_what_it_knows():
    askers = {(number % 30, _asker(number, 3, 10)) for number in range(300)}
    assert all(question // 10 != asker for question, asker in askers)
    assert len({asker for _, asker in askers}) == 3


def test_hits_across_tenants_are_counted(monkeypatch):
    across, own, keys = across_tenants(3, 90, lambda _: None)
    assert (across.value, across.holds, own.value, keys.value) == (0, True, 1, 1)
    monkeypatch.setattr(lookup_large, "scope_of", lambda *_: "one")
    across, own, _ = across_tenants(3, 90, lambda _: None)
    assert (across.value, across.holds, own.value) == (90, False, pytest.approx(1))
