"""Finding one's own post again though X changed it, and never another."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.platforms.x_own_posts import find_own_post, posted_at
from workers.platforms.x_posts import Post

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)


def snowflake(at: datetime) -> str:
    return str((int(at.timestamp() * 1000) - 1_288_834_974_657) << 22)


def post(text: str, after_s: float = 1, /, **more: Any) -> Post:
    return Post.model_validate({"id": snowflake(SINCE + timedelta(seconds=after_s)), "text": text, **more})


def referring(kind: str, target: str, text: str, after_s: float = 1, /, **more: Any) -> Post:
    return post(text, after_s, referenced_tweets=[{"type": kind, "id": target}], **more)


def test_an_id_tells_when_it_was_made() -> None:
    assert posted_at("1456012973835788293").replace(microsecond=0) == datetime(
        2021, 11, 3, 21, 38, 39, tzinfo=UTC
    )


def test_the_own_post_is_found_though_x_changed_its_text() -> None:
    url = {
        "url": "https://t.co/x1",
        "expanded_url": "https://a.example/b",
        "display_url": "a.example/b",
        "start": 0,
        "end": 9,
    }
    media = {"url": "https://t.co/p1", "expanded_url": "https://x.com/m/status/1/photo/1", "media_key": "3_1"}
    returned = post("Fish &amp; https://t.co/x1 https://t.co/p1", entities={"urls": [url, media]})
    assert find_own_post([post("Other"), returned], "Fish & https://a.example/b", SINCE) == returned


def test_an_older_post_of_the_same_text_is_never_taken() -> None:
    assert find_own_post([post("Same", -0.001)], "Same", SINCE) is None
    at_once = post("Same", 0)
    assert find_own_post([at_once], "Same", SINCE) == at_once


def test_of_several_the_earliest_is_taken() -> None:
    first, second = post("Same", 5), post("Same", 9)
    assert find_own_post([second, first], "Same", SINCE) == first


@pytest.mark.parametrize("kind", ["replied_to", "retweeted"])
def test_a_reply_or_repost_of_the_same_text_is_no_original(kind: str) -> None:
    answering = post("Same", referenced_tweets=[{"type": kind, "id": "9"}])
    assert find_own_post([answering], "Same", SINCE) is None
    assert find_own_post([post("Same", referenced_tweets=[{"type": "quoted", "id": "9"}])], "Same", SINCE)


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("Thanks!", "Thanks!"),
        ("Thanks!", "@mira Thanks!"),
        ("@mira Thanks!", "Thanks!"),
        ("@mira Thanks!", "@mira @tilda_maps Thanks!"),
        ("@mira, see you &", "@tilda @mira, see you &amp;"),
        ("@mira\nThanks", "@mira @tilda\nThanks"),
        ("@mira", "@mira @tilda"),
    ],
)
def test_a_reply_is_found_whatever_mentions_x_put_before_it_or_took_away(sent: str, returned: str) -> None:
    found = referring("replied_to", "9", returned)
    assert find_own_post([found], sent, SINCE, reply_to="9") == found


NAMES = st.lists(st.from_regex(r"[A-Za-z0-9_]{1,15}", fullmatch=True), max_size=4)


@given(sent=NAMES, returned=NAMES, text=st.text("ab @.#\n", min_size=1).map(str.strip))
def test_the_mentions_that_open_a_reply_never_decide(sent: list[str], returned: list[str], text: str) -> None:
    def opened(names: list[str]) -> str:
        return " ".join([*(f"@{name}" for name in names), text])

    found = referring("replied_to", "9", opened(returned))
    assert find_own_post([found], opened(sent), SINCE, reply_to="9") == found


@pytest.mark.parametrize("text", ["Thanks! @mira", "Thanks", "@mira Thanks?", "Thanks @mira!"])
def test_a_reply_of_another_text_is_not_ours(text: str) -> None:
    assert find_own_post([referring("replied_to", "9", text)], "Thanks!", SINCE, reply_to="9") is None


def test_a_reply_to_another_post_or_an_older_one_or_an_original_is_not_ours() -> None:
    others = [
        referring("replied_to", "8", "Thanks!"),
        referring("quoted", "9", "Thanks!"),
        referring("retweeted", "9", "Thanks!"),
        referring("replied_to", "9", "Thanks!", -0.001),
        post("Thanks!"),
    ]
    assert find_own_post(others, "Thanks!", SINCE, reply_to="9") is None
    mine = referring("replied_to", "9", "Thanks!", 7)
    assert find_own_post([*others, mine], "Thanks!", SINCE, reply_to="9") == mine


def test_a_mention_that_opens_an_original_is_part_of_its_text() -> None:
    assert find_own_post([post("@mira Thanks!", in_reply_to_user_id="5")], "Thanks!", SINCE) is None
    addressed = post("@mira Thanks!", in_reply_to_user_id="5")
    assert find_own_post([addressed], "@mira Thanks!", SINCE) == addressed


@pytest.mark.parametrize("host", ["https://twitter.com/mira", "https://x.com/mira", "x.com/i/web"])
def test_a_quote_is_found_by_what_it_quotes_with_or_without_the_link_at_its_end(host: str) -> None:
    link = {
        "url": "https://t.co/q1",
        "expanded_url": f"{host}/status/9",
        "display_url": "x.com/mira/statu\u2026",
    }
    plain = referring("quoted", "9", "Worth a look")
    linked = referring("quoted", "9", "Worth a look https://t.co/q1", entities={"urls": [link]})
    assert find_own_post([plain], "Worth a look", SINCE, quote_of="9") == plain
    assert find_own_post([linked], "Worth a look", SINCE, quote_of="9") == linked
    assert find_own_post([plain], f"Worth a look {host}/status/9", SINCE, quote_of="9") == plain


def test_a_quote_of_another_post_and_a_reply_that_quotes_are_not_ours() -> None:
    both = post(
        "Worth a look", referenced_posts=[{"type": "replied_to", "id": "8"}, {"type": "quoted", "id": "9"}]
    )
    link = {"url": "https://t.co/q1", "expanded_url": "https://x.com/mira/status/8"}
    other = referring("quoted", "9", "Worth a look https://t.co/q1", entities={"urls": [link]})
    others = [
        referring("quoted", "8", "Worth a look"),
        referring("replied_to", "9", "Worth a look"),
        both,
        other,
    ]
    assert find_own_post(others, "Worth a look", SINCE, quote_of="9") is None


@pytest.mark.parametrize("kind", ["retweeted", "reposted"])
def test_a_repost_is_never_ours(kind: str) -> None:
    repost = referring(kind, "9", "Same")
    assert (repost.is_repost, repost.reposted, repost.is_reply) == (True, "9", False)
    assert find_own_post([repost], "Same", SINCE) is None
