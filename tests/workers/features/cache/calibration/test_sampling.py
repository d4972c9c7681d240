import numpy as np
import pytest

from headrace_workers.features.cache.auditing import BANDS, audit_shares, band, chosen

REMEMBERED = [14, 49]
IDS = [f"serve-{number}" for number in range(20_000)]


def test_the_choice_is_the_same_everywhere() -> None:
    """These were chosen in another process, at another time: a change would audit other serves than yesterday."""
    assert [number for number in range(60) if chosen(f"serve-{number}", 0.1)] == REMEMBERED


def test_about_the_share_is_chosen_and_a_larger_share_keeps_them() -> None:
    tenth = {each for each in IDS if chosen(each, 0.1)}
    assert abs(len(tenth) - 2_000) < 4 * (20_000 * 0.09) ** 0.5
    assert tenth < {each for each in IDS if chosen(each, 0.3)}
    assert not any(chosen(each, 0.0) for each in IDS)
    assert all(chosen(each, 1.0) for each in IDS)


def test_two_purposes_choose_independently() -> None:
    audited = [each for each in IDS if chosen(each, 0.3)]
    again = sum(chosen(each, 0.3, "again") for each in audited)
    assert abs(again / len(audited) - 0.3) < 0.03


def test_bands_part_the_similarities() -> None:
    assert [band(similarity) for similarity in (0.5, 0.9, 0.9399, 0.94, 0.98, 0.99, 1.0)] == [0, 0, 0, 1, 2, 3, 3]
    assert len(BANDS) == 4


def test_rare_strata_get_enough_and_the_others_share_alike() -> None:
    served = [20.0, 200.0, 5_000.0, 15_000.0]
    shares = audit_shares(served, audits=1_000, least=50)
    assert np.dot(shares, served) == pytest.approx(1_000)
    assert shares[0] == 1.0
    assert shares[1] == pytest.approx(0.25)
    assert shares[2] == pytest.approx(shares[3])


def test_too_few_audits_are_cut_alike_and_too_many_take_all() -> None:
    assert audit_shares([100.0, 100.0], audits=10, least=50) == pytest.approx([0.05, 0.05])
    assert audit_shares([100.0, 10.0], audits=1_000, least=5) == pytest.approx([1.0, 1.0])
    assert audit_shares([0.0, 100.0], audits=10, least=5) == pytest.approx([1.0, 0.1])
