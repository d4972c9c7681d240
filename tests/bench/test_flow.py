from bench.flow import requests


def test_no_two_requests_are_alike_and_none_asks_the_model_twice():
    """512 different prompts from the examples, whose criteria need no model."""
    entries = requests(512)
    assert len({entry["prompt"] for entry in entries}) == 512
    assert all(criterion["criterion"] != "rubric" for entry in entries for criterion in entry["criteria"])
