import sqlite3
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x.posts import Post
from sandbox.x.wire import search
from sandbox.x.wire.search import QueryError

POSTS = {
    1: ("ada", "en", "Tea and biscuits on the ferry #travel"),
    2: ("ada", "en", "RT @bob: Coffee without biscuits"),
    3: ("bob", "de", "Coffee without biscuits @ada $TSLA"),
    4: ("carl", "en", "it is foggy_day again, tea time"),
    5: ("bob", "en", "@ada cocoa? https://example.com/a"),
}


def _post(post_id: int, lang: str, text: str) -> Post:
    replied = 1 if text.startswith("@") else None
    return Post(
        id=post_id,
        author_id=1,
        text=text,
        created_ms=0,
        lang=lang,
        reply_to=replied,
        conversation_id=replied,
        quote_of=2 if "https://" in text else None,
    )


def finder() -> Callable[[str], set[int]]:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE words USING fts5"
        " (body, marks, tokenize = \"unicode61 remove_diacritics 0 tokenchars '_'\")"
    )
    for post_id, (username, lang, text) in POSTS.items():
        marks = search.marks(_post(post_id, lang, text), username)
        connection.execute("INSERT INTO words (rowid, body, marks) VALUES (?, ?, ?)", (post_id, text, marks))

    def find(query: str) -> set[int]:
        rows = connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (search.expression(query),))
        return {int(row[0]) for row in rows}

    return find


find = finder()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("biscuits", {1, 2, 3}),
        ("BISCUITS tea", {1}),
        ('"without biscuits"', {2, 3}),
        ('"biscuits without"', set[int]()),
        ("biscuits -coffee", {1}),
        ("ferry OR foggy_day", {1, 4}),
        ("tea OR coffee -ferry", {1, 2, 3, 4}),
        ("(tea OR coffee) -ferry", {2, 3, 4}),
        ("biscuits -(coffee OR cocoa)", {1}),
        ("from:ada", {1, 2}),
        ("from:@Ada -is:retweet", {1}),
        ("coffee is:retweet", {2}),
        ("coffee lang:de", {3}),
        ("#travel", {1}),
        ("#Travel", {1}),
        ("#tea", set[int]()),
        ("@ada", {3, 5}),
        ("@bob", {2}),
        ("$tsla", {3}),
        ("to:ada", {5}),
        ("conversation_id:1", {5}),
        ("cocoa is:reply", {5}),
        ("cocoa -is:reply", set[int]()),
        ("cocoa is:quote has:links", {5}),
        ("bis", set[int]()),
        ("-coffee biscuits", {1}),
        ("it's", set[int]()),
    ],
)
def test_a_query_finds_exactly_what_it_describes(query: str, found: set[int]) -> None:
    assert find(query) == found


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "at least one word"),
        ("tea bounding_box:x", "bounding_box:x"),
        ("is:verified tea", "is:verified"),
        ("from: tea", "from:"),
        ("-tea", "negated"),
        ("is:retweet", "only narrow"),
        ("lang:en -tea", "only narrow"),
        ("tea OR is:retweet", "only narrow"),
        ("(tea", "without its ')'"),
        ("tea)", "without its '('"),
        ('"tea', "without its pair"),
        ("tea OR", "both sides"),
        ("()", "empty group"),
        ("🔥", "letter or a digit"),
        ("tea " * 2000, "at most 4096"),
        ("(" * 100 + "tea" + ")" * 100, "deep"),
    ],
)
def test_an_unreadable_query_is_refused_by_naming_the_part(query: str, named: str) -> None:
    with pytest.raises(QueryError) as refused:
        search.expression(query)
    assert named in str(refused.value)


@given(
    st.text(alphabet=st.sampled_from('ab "-()#@$:ORfromislang\0\n🔥é'), max_size=60) | st.text(max_size=60)
)
def test_whatever_a_query_holds_it_is_refused_or_searched(query: str) -> None:
    try:
        found = find(query)
    except QueryError:
        return
    assert found <= set(POSTS)


def test_the_longest_query_of_short_words_is_searched() -> None:
    assert find("tea OR " * 580 + "tea") == {1, 4}
    assert find("tea " * 1000) == {1, 4}
