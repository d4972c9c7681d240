from tests.mutation.mutants import progress


def test_it_says_what_it_does_before_the_first_is_tried():
    """Minutes in which nothing would move else."""
    assert progress(0, 139) == "the tests run once, unmutated, to see which of them touch what; that takes some minutes"
    assert progress(1, 139) == "1 of 139 tried"
