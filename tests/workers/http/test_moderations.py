from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway


def test_each_text_has_its_verdict(gateway: Gateway):
    with openai_of(gateway) as client:
        response = client.moderations.create(input=["Write to ann@headrace.io.", "Name three rivers."])
    flagged, plain = response.results
    assert (flagged.flagged, plain.flagged) == (True, False)
    assert flagged.categories.model_extra["personal_data"] is True
    assert plain.categories.model_extra["personal_data"] is False
    assert (plain.categories.violence, plain.category_scores.violence) == (False, 0.0)
    assert response.model == "headrace-policy"
