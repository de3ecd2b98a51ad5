"""Who writes, by what the configuration says of a model."""

from datetime import UTC, datetime

import pytest
from pydantic import HttpUrl, SecretStr

from config import Config
from tests.integration.platforms.scripted import Scripted, reply
from workers.platforms.writers import Brief, Draft
from workers.platforms.writers.answers import AnswerBrief
from workers.platforms.writers.choice import answerer, post_writer, responder
from workers.platforms.writers.responses import ResponseBrief

NONE = Config(openai_base_url=None, openai_api_key=None)


def written(config: Config) -> list[Draft]:
    """A post, a reply and an answer."""
    return [
        post_writer(config).write(Brief(topics=("tea",), at=datetime(2026, 3, 1, tzinfo=UTC), seed=1)),
        responder(config).write(ResponseBrief(kind="reply", words="Green or black?", topic="tea", seed=1)),
        answerer(config).write(AnswerBrief(words="@fleet green or black?", topics=("tea",), seed=1)),
    ]


def test_without_a_model_the_built_in_writers_write() -> None:
    assert [(draft.writer, draft.fallback_reason) for draft in written(NONE)] == [("builtin", None)] * 3


@pytest.mark.parametrize("key", [None, SecretStr("sk-1")])
def test_an_endpoint_is_asked_for_every_kind_of_text(server: Scripted, key: SecretStr | None) -> None:
    message = {"role": "assistant", "content": "Oolong, slowly."}
    server.answers(reply(200, {"choices": [{"message": message, "finish_reason": "stop"}]}))
    config = NONE.model_copy(update={"openai_base_url": HttpUrl(f"{server.url}/v1"), "openai_api_key": key})
    assert [(draft.writer, draft.text) for draft in written(config)] == [("model", "Oolong, slowly.")] * 3
    assert len(server.requests) == 3


def test_behind_a_model_that_is_away_the_built_in_writers_write_and_say_why(server: Scripted) -> None:
    server.answers(reply(503, {"error": "busy"}))
    config = NONE.model_copy(update={"openai_base_url": HttpUrl(f"{server.url}/v1")})
    for draft in written(config):
        assert draft.writer == "builtin"
        assert str(draft.fallback_reason).endswith("the endpoint answered 503")
