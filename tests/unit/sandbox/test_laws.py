"""The laws that need no server: ids, limits' windows, the store's order."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sandbox.x import rate_limits, snowflakes
from sandbox.x.auth import Caller
from sandbox.x.posts import Post, User
from sandbox.x.rate_limits import Limit, Limits
from sandbox.x.store.store import DAY_MS, Span, Store
from sandbox.x.wire import parameters, search
from sandbox.x.wire.parameters import Query

NOW_MS = 1_800_000_000_000
ACCOUNT = User(id=12, username="fleet", name="Fleet", created_ms=0)
CALLER = Caller(name="fleet", context="user")
ME = rate_limits.LIMITS["users_me", "user"]
POSTS = rate_limits.LIMITS["post_tweet", "user"]


def post(post_id: int = 5) -> Post:
    return Post(id=post_id, author_id=12, text="Hi", created_ms=NOW_MS, lang="en")


@given(
    st.integers(min_value=snowflakes.FIRST_POST_MS, max_value=2**41),
    st.integers(min_value=1, max_value=10**9),
)
def test_a_later_post_has_a_greater_id(at_ms: int, later_ms: int) -> None:
    # Before the scheme of 2010 ids were given out one after the other: a millisecond is no step there.
    step = later_ms if at_ms >= snowflakes.EPOCH_MS else later_ms + 10_000
    assert snowflakes.from_time(at_ms) < snowflakes.from_time(at_ms + step)


@given(st.integers(min_value=snowflakes.EPOCH_MS, max_value=2**41))
def test_an_id_tells_its_time(at_ms: int) -> None:
    assert snowflakes.time_ms(snowflakes.from_time(at_ms)) == at_ms


@given(st.integers(min_value=1, max_value=snowflakes.MAX_ID))
def test_a_token_continues_before_the_post_it_was_made_for(post_id: int) -> None:
    query = Query(values=[("pagination_token", parameters.token(post_id))])
    assert query.span("pagination_token").until_id == post_id
    assert not query.faults


def test_a_window_counts_down_ends_and_begins_anew(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    for used in range(1, 76):
        (usage,) = rate_limits.use(store, CALLER, "users_me", (1000 + used) * 1000, ME)
        assert (usage.allowed, usage.remaining, usage.reset_s) == (True, 75 - used, 1001 + 900)
    (refused,) = rate_limits.use(store, CALLER, "users_me", 1_900_000, ME)
    assert (refused.allowed, refused.remaining) == (False, 0)
    (anew,) = rate_limits.use(store, CALLER, "users_me", 1_901_000, ME)
    assert (anew.allowed, anew.remaining, anew.reset_s) == (True, 74, 2801)
    store.close()


def test_an_empty_window_takes_nothing_from_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    for _ in range(100):
        rate_limits.use(store, CALLER, "post_tweet", 1_000_000, POSTS)
    short, day = rate_limits.use(store, CALLER, "post_tweet", 1_000_000, POSTS)
    assert (short.allowed, short.remaining) == (False, 0)
    assert day.remaining == 10_000 - 100
    assert day.headers()["x-app-limit-24hour-limit"] == "10000"
    store.close()


def test_windows_that_end_before_their_time_begin_with_nothing_used(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    for _ in range(70):
        rate_limits.use(store, CALLER, "users_me", 1_000_000, ME)
    rate_limits.begin_anew(store, CALLER, "users_me", 1_100_000, ME)
    (usage,) = rate_limits.use(store, CALLER, "users_me", 1_100_000, ME)
    assert (usage.remaining, usage.reset_s) == (74, 1100 + 900)
    (count,) = store.counts.view()
    assert (count["rolling_max"], count["fixed_max"]) == (71, 70)
    store.close()


def test_a_window_without_a_header_counts_in_silence(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    limits = Limits()
    limits.set(
        "post_tweet",
        "user",
        [
            Limit(limit=3, window_s=900),
            Limit(limit=2, window_s=3600, header=None),
            Limit(limit=9, window_s=86_400, header="x-user-limit-24hour"),
        ],
    )
    windows = limits.of("post_tweet", "user")
    usages = [rate_limits.use(store, CALLER, "post_tweet", 1_000_000, windows) for _ in range(3)]
    assert [all(usage.allowed for usage in each) for each in usages] == [True, True, False]
    sent = {name: value for usage in usages[-1] for name, value in usage.headers().items()}
    assert sent == {
        "x-rate-limit-limit": "3",
        "x-rate-limit-remaining": "1",
        "x-rate-limit-reset": "1900",
        "x-user-limit-24hour-limit": "9",
        "x-user-limit-24hour-remaining": "7",
        "x-user-limit-24hour-reset": "87400",
    }
    assert [(one["window_s"], one["limit"], one["rolling_max"]) for one in store.counts.view()] == [
        (900, 3, 2),
        (3600, 2, 2),
        (86_400, 9, 2),
    ]
    assert limits.clear() == 1
    assert limits.of("post_tweet", "user") == POSTS
    store.close()


def test_windows_survive_a_restart(tmp_path: Path) -> None:
    for remaining in (74, 73):
        store = Store(tmp_path / "x.sqlite", ACCOUNT)
        assert rate_limits.use(store, CALLER, "users_me", 1_000_000, ME)[0].remaining == remaining
        store.close()


def test_ids_rise_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    ids = [store.accept_post(str(at), lang="en", at_ms=NOW_MS - at * 1000).id for at in range(5)]
    assert ids == sorted(set(ids))
    assert [write["id"] for write in store.writes()] == [str(post_id) for post_id in ids]
    store.close()


def test_a_text_counts_as_a_duplicate_for_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    store.accept_post("Hi", lang="en", at_ms=NOW_MS)
    assert store.has_recent_text("Hi", NOW_MS + DAY_MS - 1)
    assert not store.has_recent_text("Hi", NOW_MS + DAY_MS + 1)
    assert not store.has_recent_text("hi", NOW_MS)
    store.close()


def test_a_post_is_found_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    accepted = store.accept_post("Tea time", lang="en", at_ms=NOW_MS)
    assert store.search(search.expression("tea from:fleet"), Span(), 10) == [accepted]
    assert store.search(search.expression("tea"), Span(end_ms=NOW_MS), 10) == []
    assert store.posts_of(12, Span(since_id=accepted.id), 10) == []
    store.close()
