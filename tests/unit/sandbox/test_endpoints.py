"""The endpoints' own table, and that nothing a client sends is answered with a failure."""

import json
import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from sandbox.x import rate_limits, snowflakes
from sandbox.x.auth import Caller, Client
from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import ENDPOINTS
from sandbox.x.endpoints.oauth2 import SCOPES
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Store
from sandbox.x.tiers import ALL
from sandbox.x.wire.answers import Problem
from sandbox.x.wire.parameters import FIELDS, LISTING, Query
from sandbox.x.world.worlds import World

NOW_MS = 1_800_000_000_000
ACCOUNT = User(id=12, username="fleet", name="Fleet", created_ms=0)
UPLOADED_MS = snowflakes.EPOCH_MS
UPLOAD = 1  # the first one, made as ids begin
ADA = User(id=20, username="ada", name="Ada", created_ms=0)
TEA = Post(id=100, author_id=ADA.id, text="Tea, @fleet", created_ms=1, lang="en")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("endpoints") / "x.sqlite", ACCOUNT)
    opened.replace_world(World(digest="one", users=[ADA], posts=[TEA]))
    upload = opened.media.begin(media_type="image/png", category=None, total_bytes=1, at_ms=UPLOADED_MS)
    assert upload.id == UPLOAD
    yield opened
    opened.close()


def call(
    *,
    query: list[tuple[str, str]] | None = None,
    path: dict[str, str] | None = None,
    body: bytes = b"",
    content_type: str = "application/json",
    tier: str = "enterprise",
) -> Call:
    return Call(
        query=Query(values=query or []),
        path=path or {},
        caller=Caller(name="fleet", context="user", user_id=12),
        body=body,
        content_type=content_type,
        client=Client(id="app", secret="secret"),
        authorization="",
        tier=tier,
        now_ms=NOW_MS,
        visible_ms=NOW_MS,
    )


def test_each_endpoint_has_a_name_and_limits_of_its_own() -> None:
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(names) == len(set(names))
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}) == len(names)
    for endpoint in ENDPOINTS:
        served = {"user": endpoint.who != "nobody", "app": endpoint.who == "any"}
        for context, limited in served.items():
            assert ((endpoint.name, context) in rate_limits.LIMITS) == limited, (endpoint.name, context)
    assert {name for name, _ in rate_limits.LIMITS} <= set(names)


def test_each_scope_can_be_granted() -> None:
    for endpoint in ENDPOINTS:
        assert set(endpoint.scopes) <= set(SCOPES)
        assert set(endpoint.tiers) <= set(ALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.text(st.characters(), max_size=3)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELD_NAMES = st.sampled_from(
    [
        "text",
        "reply",
        "quote_tweet_id",
        "media",
        "poll",
        "reply_settings",
        "made_with_ai",
        "tweet_id",
        "target_user_id",
        "hidden",
        "media_type",
        "total_bytes",
        "segment_index",
        "metadata",
        "id",
    ]
)
BODIES = st.dictionaries(FIELD_NAMES, JSON | st.sampled_from(["100", "20", "404"]), max_size=4)
IDS = st.sampled_from(["12", "20", "100", "404"]) | st.text(string.printable, min_size=1, max_size=25)
VALUES = st.sampled_from(["tea", "100", "5", "author_id", "2026-01-01T00:00:00Z", ""]) | st.text(max_size=30)
NAMES = st.sampled_from(
    ["ids", "usernames", "query", "granularity", "exclude", "media_id", "command", *FIELDS, *LISTING]
)


def served(store: Store, endpoint: Endpoint, given_call: Call) -> None:
    """The answer is X's: JSON, or one of its refusals."""
    status, body = answered(store, endpoint, given_call)
    assert status in {200, 201, 400, 401, 403}
    if isinstance(body, dict):
        JSONResponse(body)  # what can't be sent raises


def answered(store: Store, endpoint: Endpoint, given_call: Call) -> tuple[int, Any]:
    try:
        return endpoint.status, endpoint.serve(store, given_call)
    except Problem as problem:
        return problem.status, problem.body


def in_path(endpoint: Endpoint, value: str) -> dict[str, str]:
    parts = (part for _, part, _, _ in string.Formatter().parse(endpoint.path) if part)
    return dict.fromkeys(parts, value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    endpoint=st.sampled_from([one for one in ENDPOINTS if one.method != "GET"]),
    body=BODIES.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=200),
    content_type=st.sampled_from(
        [
            "application/json",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "application/x-www-form-urlencoded",
        ]
    ),
    value=IDS,
    tier=st.sampled_from(ALL),
)
def test_whatever_a_write_holds_it_is_answered_or_refused(
    store: Store, endpoint: Endpoint, body: bytes, content_type: str, value: str, tier: str
) -> None:
    path = in_path(endpoint, value)
    served(store, endpoint, call(path=path, body=body, content_type=content_type, tier=tier))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    endpoint=st.sampled_from([one for one in ENDPOINTS if one.method == "GET"]),
    query=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    value=IDS,
)
def test_whatever_a_read_asks_it_is_answered_or_refused(
    store: Store, endpoint: Endpoint, query: list[tuple[str, str]], value: str
) -> None:
    served(store, endpoint, call(query=query, path=in_path(endpoint, value)))


@pytest.mark.parametrize("alt_text", ["half a pair: \ud83d", "no character: \uffff", "x" * 1001])
def test_a_description_that_x_would_not_keep_is_refused(store: Store, alt_text: str) -> None:
    endpoint = next(one for one in ENDPOINTS if one.name == "describe_media")
    body = {"id": str(UPLOAD), "metadata": {"alt_text": {"text": alt_text}}}
    status, answer = answered(store, endpoint, call(body=json.dumps(body).encode()))
    assert status == 400
    assert "$.metadata.alt_text.text: has " in answer["errors"][0]["message"]


def test_what_lags_is_missing_in_lists_and_there_by_id(store: Store) -> None:
    by_name = {endpoint.name: endpoint for endpoint in ENDPOINTS}
    post = store.accept_post("Just now, about lag", lang="en", at_ms=NOW_MS)
    path = {"id": "12"}
    for name, asked in (
        ("user_tweets", call(path=path)),
        ("search_tweets", call(query=[("query", "lag")])),
    ):
        seen: Any = by_name[name].serve(store, asked)
        lagging = replace(asked, query=Query(values=asked.query.values), visible_ms=NOW_MS - 1)
        hidden: Any = by_name[name].serve(store, lagging)
        assert str(post.id) in [one["id"] for one in seen["data"]]
        assert str(post.id) not in [one["id"] for one in hidden.get("data", [])]
    found: Any = by_name["get_tweet"].serve(store, call(path={"id": str(post.id)}))
    assert found["data"]["id"] == str(post.id)


def test_private_metrics_end_after_thirty_days(store: Store) -> None:
    endpoint = next(one for one in ENDPOINTS if one.name == "get_tweet")
    for age_days, shown in ((29, True), (31, False)):
        at_ms = NOW_MS - age_days * 86_400_000
        post = store.accept_post(f"Of {age_days} days", lang="en", at_ms=at_ms)
        asked = call(path={"id": str(post.id)}, query=[("tweet.fields", "non_public_metrics")])
        answer: Any = endpoint.serve(store, asked)
        assert ("non_public_metrics" in answer["data"], "errors" in answer) == (shown, not shown)
        assert snowflakes.time_ms(post.id) >= at_ms
