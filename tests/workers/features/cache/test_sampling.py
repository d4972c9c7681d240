from headrace_workers.features.cache.auditing import BANDS, band, chosen

REMEMBERED = [14, 49]
IDS = [f"serve-{number}" for number in range(20_000)]


def test_the_choice_is_the_same_everywhere() -> None:
    """These were chosen in another process, at another time: a change would audit other serves than yesterday."""
    assert [number for number in range(60) if chosen(f"serve-{number}", 0.1)] == REMEMBERED


def test_about_the_share_is_chosen_and_a_larger_share_keeps_them() -> None:
    tenth = {text for text in IDS if chosen(text, 0.1)}
    assert abs(len(tenth) - 2_000) < 4 * (20_000 * 0.09) ** 0.5
    assert tenth < {text for text in IDS if chosen(text, 0.3)}
    assert not any(chosen(text, 0.0) for text in IDS)
    assert all(chosen(text, 1.0) for text in IDS)


def test_two_purposes_choose_independently() -> None:
    audited = [text for text in IDS if chosen(text, 0.3)]
    again = sum(chosen(text, 0.3, "again") for text in audited)
    assert abs(again / len(audited) - 0.3) < 0.03


def test_bands_part_the_similarities() -> None:
    assert [band(similarity) for similarity in (0.5, 0.9, 0.9399, 0.94, 0.98, 0.99, 1.0)] == [0, 0, 0, 1, 2, 3, 3]
    assert len(BANDS) == 4
