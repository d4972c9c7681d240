"""How far ingest is."""

from headrace_workers.ledger.work.positions import Place


def test_positions_are_written_with_the_jobs_and_never_go_back_in_one_log(ledger, job):
    """Another bridge may have been further; a topic that was made anew begins where it says."""
    place, anew = Place("t", 0, "log1"), Place("t", 0, "log2")
    ledger.ingest([job()], following={place: 5, Place("t", 1, "log1"): 1})
    ledger.ingest([], following={place: 3})
    assert ledger.positions() == {place: 5, Place("t", 1, "log1"): 1}
    ledger.ingest([], following={place: 7})
    assert ledger.positions()[place] == 7
    ledger.ingest([], following={anew: 2})
    assert ledger.positions()[anew] == 2
    assert place not in ledger.positions()
