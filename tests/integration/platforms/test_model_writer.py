"""A model's draft: asked for once, within a deadline, and trusted in nothing."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from tests.integration.platforms.scripted import Scripted, reply
from workers.platforms.writers import Brief, BuiltinWriter, DraftRefused, FallbackWriter, WriterUnavailable
from workers.platforms.writers.model import ModelWriter

KEY = "sk-5c1e"
DEADLINE_S = 30
"""Where the deadline is not what is tested: as long as a busy machine may take."""
BRIEF = Brief(
    topics=("tea",), avoid=frozenset({"Already said."}), at=datetime(2026, 3, 1, tzinfo=UTC), seed=1
)


def completion(text: object, finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


@pytest.fixture
def writer(server: Scripted) -> ModelWriter:
    return ModelWriter(f"{server.url}/v1", SecretStr(KEY), "small", deadline_s=DEADLINE_S)


def test_the_models_text_is_the_draft(server: Scripted, writer: ModelWriter) -> None:
    server.answers(reply(200, completion("Tea, again. #tea")))
    draft = writer.write(BRIEF)
    assert (draft.text, draft.writer, draft.topic) == ("Tea, again. #tea", "model", "tea")
    assert draft.detail == {"model": "small"}
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    asked = json.loads(body)
    assert asked["model"] == "small"
    assert "Topic: tea" in asked["messages"][1]["content"]
    assert "Already said." in asked["messages"][0]["content"]


@pytest.mark.parametrize(
    "text", ['"Hello."', "\u201cHello.\u201d", "```\nHello.\n```", " 'Hello.'\n", "\"'Hello.'\""]
)
def test_quotes_and_fences_around_the_text_are_taken_off(
    server: Scripted, writer: ModelWriter, text: str
) -> None:
    server.answers(reply(200, completion(text)))
    assert writer.write(BRIEF).text == "Hello."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is blank"),
        ("x" * 300, "weighted length 300"),
        ("a\x00b", "U\\+0000"),
        ("Look: https://evil.example", "a link"),
        ("Look at evil.com now", "a link"),
        ("ftp://evil/x", "a link"),
        ("Hi @someone", "mentions an account"),
        ("Hi \uff20someone", "mentions an account"),
        ("already  SAID.", "a recent one"),
        ("$AAPL and $MSFT", "2 cashtags"),
    ],
)
def test_a_text_that_may_not_be_posted_is_refused(
    server: Scripted, writer: ModelWriter, text: str, why: str
) -> None:
    server.answers(reply(200, completion(text)))
    with pytest.raises(DraftRefused, match=why):
        writer.write(BRIEF)


def test_links_and_mentions_pass_where_they_are_allowed(server: Scripted) -> None:
    writer = ModelWriter(f"{server.url}/v1", None, "small", allow_links=True, allow_mentions=True)
    server.answers(reply(200, completion("@me https://a.example")))
    assert writer.write(BRIEF).text == "@me https://a.example"


def test_a_text_cut_off_is_refused(server: Scripted, writer: ModelWriter) -> None:
    server.answers(reply(200, completion("Tea is", "length")))
    with pytest.raises(DraftRefused, match="cut off"):
        writer.write(BRIEF)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff",
        reply(200, b"{"),
        reply(200, b"[" * 100_000),
        reply(200, {}),
        reply(200, {"choices": []}),
        reply(200, b'{"choices": [{}]}'),
        reply(200, completion(None)),
        reply(200, completion(5)),
        reply(200, completion("a"))[:-5],
        reply(302, {}, "Location: /v2"),
        reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        reply(429, {"error": {"message": "quota"}}, "Retry-After: 1"),
        reply(500, b"oh"),
        reply(503, b"[" * 100_000),
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_000_001,
    ],
)
def test_a_failing_endpoint_is_asked_once_and_the_built_in_writer_goes_on(
    server: Scripted, writer: ModelWriter, data: bytes
) -> None:
    server.answers(data)
    draft = FallbackWriter(writer, BuiltinWriter()).write(BRIEF)
    assert draft.writer == "builtin"
    assert draft.fallback_reason
    assert draft.fallback_reason.startswith("WriterUnavailable: small: ")
    assert KEY not in draft.fallback_reason
    assert server.connections == 1


@pytest.mark.timed
def test_a_slow_loris_ends_at_the_deadline(server: Scripted) -> None:
    server.drips(reply(200, completion("x" * 5000)))
    begun_s = time.monotonic()
    with pytest.raises(WriterUnavailable):
        ModelWriter(f"{server.url}/v1", None, "small", deadline_s=0.3).write(BRIEF)
    assert time.monotonic() - begun_s < 1


def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(WriterUnavailable, match="no answer"):
        ModelWriter("http://model.invalid/v1", SecretStr(f"{KEY}\n"), "small", deadline_s=DEADLINE_S).write(
            BRIEF
        )
