from bench.flow import requests


def test_no_two_requests_are_alike_and_none_asks_the_model_twice():
    """512 different prompts from the examples, whose criteria need no model."""
    found = requests(512)
    assert len({each["prompt"] for each in found}) == 512
    assert all(criterion["criterion"] != "rubric" for each in found for criterion in each["criteria"])
