"""The models that there are, asked for by OpenAI's own client."""

import openai
import pytest
from tests.workers.gateway.openai_client import openai_of
from tests.workers.gateway.served import Gateway


def test_models_are_listed_and_found(gateway: Gateway):
    """By their aliases, with what is known of them; one that is not there is named."""
    with openai_of(gateway) as client:
        found = {model.id: model for model in client.models.list()}
        assert client.models.retrieve("echo") == found["echo"]
        assert found["echo"].model_extra["headrace"]["kind"] == "generator"
        assert found["echo"].created > 1_700_000_000
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("none-such")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("HuggingFaceTB/none-such")  # as most models are called elsewhere
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.APIStatusError) as caught:
            client.models.delete("echo")
        assert caught.value.status_code == 405
