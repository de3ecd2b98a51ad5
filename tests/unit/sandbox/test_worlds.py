import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x import snowflakes
from sandbox.x.posts import Metrics
from sandbox.x.world import worlds
from sandbox.x.world.world_files import WorldError
from sandbox.x.world.worlds import World

HEADER = "created_at,text,url,replies,retweets,favorites,user\n"
GOOD = "10/16/17 22:59,Hello &amp; welcome,https://twitter.com/ada/status/920061541986250758,1,2,3,ada\n"


def load(content: str | bytes, name: str = "world.csv", folder: Path = Path("/nowhere")) -> World:
    data = content.encode() if isinstance(content, str) else content
    return worlds.load(folder / name, data, taken="fleet")


def test_a_row_becomes_a_post_with_its_id_its_time_and_its_counts() -> None:
    (post,) = load(HEADER + GOOD).posts
    assert post.id == 920061541986250758
    assert post.text == "Hello & welcome"
    assert post.created_ms == 1508194740000
    assert post.metrics == Metrics(replies=1, retweets=2, likes=3)
    assert post.lang == "en"


@pytest.mark.parametrize(
    "written",
    [
        "2017-10-16T22:59:00Z",
        "2017-10-17T00:59:00+02:00",
        "2017-10-16 22:59",
        "10/16/2017 22:59:00",
        "Mon Oct 16 22:59:00 +0000 2017",
    ],
)
def test_a_time_may_be_written_in_any_of_the_usual_ways(written: str) -> None:
    assert load(HEADER + GOOD.replace("10/16/17 22:59", written)).posts[0].created_ms == 1508194740000


@pytest.mark.parametrize(
    ("row", "report"),
    [
        ("13/45/17 1:00,Hi,,1,2,3,ada", "column 'created_at' is '13/45/17 1:00': expected a time"),
        ("10/16/17 22:59,,,1,2,3,ada", "column 'text' is '': expected 1 to"),
        ("10/16/17 22:59,Hi,,1,-2,3,ada", "column 'retweets' is '-2': expected a whole number"),
        ("10/16/17 22:59,Hi,,1,2,many,ada", "column 'favorites' is 'many': expected a whole number"),
        ("10/16/17 22:59,Hi,,1,2,3,a b", "column 'user' is 'a b': expected a username"),
        ("10/16/17 22:59,Hi,,1,2,3,Fleet", "column 'user' is 'Fleet': expected another name"),
        ("10/16/17 22:59,Hi,,1,2,3,ada,more", "column '8' is 'more': expected no more than 7 columns"),
        (
            "10/16/17 22:59,Hi,x.com/a/status/920061541986250758,1,2,3,ada",
            "column 'url' is 'x.com/a/status/920061541986250758': expected an id that no earlier row has",
        ),
        ("10/16/17 22:59,Hi,x.com/a/status/9999999999999999999,1,2,3,ada", "expected a post's id"),
        ("10/16/17 22:59", "column 'user' is '': expected a username"),
        ('10/16/17 22:59,"Hi\nthere",,1,2,3,', "column 'user' is '': expected a username"),
        ("10/16/17 22:59,Hi\rthere,,1,2,3,ada", "expected a line of CSV"),
    ],
)
def test_a_bad_row_is_reported_with_its_line_and_skipped(row: str, report: str) -> None:
    last = GOOD.replace("920061541986250758", "920061541986250759")
    world = load(HEADER + GOOD + row + "\n" + last)
    assert [post.id for post in world.posts] == [920061541986250758, 920061541986250759]
    (reported,) = world.reports
    assert reported.startswith("/nowhere/world.csv:3: column '")
    assert report in reported


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("text,user\nHi,ada\n", "no column created_at"),
        ("created_at;text;user\n", "no column created_at and no column text"),
        (HEADER, "no row that is a post"),
        (HEADER + "yesterday,Hi,,1,2,3,ada\n", "world.csv:2: column 'created_at' is 'yesterday'"),
        (b"\x89PNG\0\0", "not text"),
    ],
)
def test_a_file_that_is_no_world_is_refused(content: str | bytes, named: str) -> None:
    with pytest.raises(WorldError) as refused:
        load(content)
    assert named in str(refused.value)


def test_bytes_that_are_no_utf8_are_taken_as_windows_1252() -> None:
    data = (HEADER + GOOD).encode().replace(b"Hello", b"caf\xe9 \x97\x9d")
    assert load(data).posts[0].text == "café —\x9d & welcome"


def test_made_ids_rise_with_time_and_are_the_same_at_every_load() -> None:
    rows = "".join(f"{day}/16/17 22:59,Hi {day},,1,2,3,ada\n" for day in (1, 1, 2, 3))
    first, second = load(HEADER + rows), load(HEADER + rows)
    ids = [post.id for post in first.posts]
    assert ids == sorted(set(ids)) == [post.id for post in second.posts]
    assert snowflakes.time_ms(ids[0]) == first.posts[0].created_ms


def test_an_archive_gives_its_owners_posts(tmp_path: Path) -> None:
    account = [{"account": {"username": "ada_l", "accountId": "7"}}]
    (tmp_path / "account.js").write_text(f"window.YTD.account.part0 = {json.dumps(account)}")
    tweet = {
        "id_str": "1053618732000000000",
        "created_at": "Sat Oct 20 12:00:00 +0000 2018",
        "full_text": "Tea &lt; coffee",
        "favorite_count": "12",
        "retweet_count": "3",
        "lang": "en",
        "entities": {"hashtags": "none"},
    }
    items = [{"tweet": tweet}, {"tweet": {**tweet, "id_str": "x"}}, 5]
    archive = f"window.YTD.tweets.part0 = {json.dumps(items, indent=2)}\n"
    world = load(archive, "tweets.js", tmp_path)
    (post,) = world.posts
    assert (post.text, post.metrics) == ("Tea < coffee", Metrics(likes=12, retweets=3))
    assert world.users[0].username == "ada_l"
    lines = archive.splitlines()
    bad = [number for number, line in enumerate(lines, 1) if line == "  {"][1]
    assert world.reports == [
        f"{tmp_path}/tweets.js:{bad}: column 'id_str' is 'x': expected a post's id: 1 to 19 digits",
        f"{tmp_path}/tweets.js:{len(lines) - 1}: column 'tweet' is '5': expected an object that is a post",
    ]


@pytest.mark.parametrize(
    "content", ["window.YTD.like.part0 = []", "window.YTD.tweets.part0 = [{", "var x = 1", "[]"]
)
def test_a_js_file_that_is_no_archive_of_posts_is_refused(content: str) -> None:
    with pytest.raises(WorldError):
        load(content, "tweets.js")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_world_or_refused(data: bytes) -> None:
    for start in (b"", HEADER.encode(), b"window.YTD.tweets.part0 = ["):
        try:
            world = load(start + data)
        except WorldError:
            continue
        assert world.posts
