"""The pages that show a person what the fleet did."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import requests

from tests.integration.sandbox.controlled import Controlled, controlled

WORLD = """id,created_at,text,user,likes
101,2026-01-01T10:00:00Z,The <b>first</b> word about gardens,ada,3
102,2026-01-02T10:00:00Z,@fleet what do you sow in March?,ben,0
103,2026-01-03T10:00:00Z,Bread needs time,cem,12
"""


@pytest.fixture(scope="module")
def x(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlled(tmp_path_factory.mktemp("pages") / "x", WORLD) as started:
        yield started


@pytest.fixture(scope="module")
def acts(x: Controlled) -> dict[str, str]:
    """One act of each kind, and the ids of the posts that they made."""
    made: dict[str, str] = {}
    for name, body in (
        ("post", {"text": '<script>alert("1")</script> & more'}),
        ("reply", {"text": "@ben Peas, and patience", "reply": {"in_reply_to_tweet_id": "102"}}),
        ("quote", {"text": "True of dough & code", "quote_tweet_id": "103"}),
        ("gone", {"text": "Taken back at once"}),
    ):
        made[name] = json.loads(x.raw("POST", "/2/tweets", body).answer().body)["data"]["id"]
    own = x.sandbox.keys["user_id"]
    assert x.raw("POST", f"/2/users/{own}/likes", {"tweet_id": "101"}).answer().status == 200
    assert x.raw("DELETE", f"/2/tweets/{made['gone']}").answer().status == 200
    return made


class Reader(HTMLParser):
    """The articles of a page as text, and every tag and attribute on it."""

    def __init__(self) -> None:
        super().__init__()
        self.articles: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name in {"href", "src"}]
        if tag == "article":
            self.articles.append("")

    def handle_data(self, data: str) -> None:
        if self.articles:
            self.articles[-1] += f" {data}"


def read(x: Controlled, path: str, status: int = 200) -> Reader:
    answer = requests.get(x.sandbox.url + path, timeout=20)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    reader = Reader()
    reader.feed(answer.text)
    return reader


def shows(article: str, *parts: str) -> bool:
    return all(part in " ".join(article.split()) for part in parts)


def test_the_fleets_acts_stand_newest_first_with_what_they_are_about(
    x: Controlled, acts: dict[str, str]
) -> None:
    assert len(acts) == 4
    deleted, liked, gone, quote, reply, post = read(x, "/").articles
    assert shows(deleted, "@fleet deleted a post", "no longer there")
    assert shows(liked, "@fleet liked", "@ada", "The <b>first</b> word about gardens")
    assert shows(gone, "@fleet posted", "Taken back at once", "deleted since")
    assert shows(quote, "@fleet quoted", "True of dough & code", "@cem", "Bread needs time")
    assert shows(reply, "@fleet answered", "what do you sow in March?", "Peas, and patience")
    assert shows(post, "@fleet posted", '<script>alert("1")</script> & more')


@pytest.mark.parametrize(
    ("kind", "count"), [("posts", 2), ("replies", 1), ("quotes", 1), ("likes", 1), ("all", 6), ("other", 6)]
)
def test_the_acts_can_be_narrowed_to_a_kind(
    x: Controlled, acts: dict[str, str], kind: str, count: int
) -> None:
    assert acts
    assert len(read(x, f"/?kind={kind}").articles) == count


def test_mentions_and_the_whole_world_have_their_tabs(x: Controlled, acts: dict[str, str]) -> None:
    assert acts
    (mention,) = read(x, "/?show=mentions").articles
    assert shows(mention, "@ben", "what do you sow in March?")
    world = read(x, "/?show=world").articles
    assert len(world) == 6
    assert shows(world[0], "Fleet", "True of dough & code")
    assert shows(world[-1], "@ada", "1 answer") or shows(world[-1], "@ada", "0 answers")


def test_a_thread_shows_what_a_post_answers_and_what_answers_it(x: Controlled, acts: dict[str, str]) -> None:
    above, own = read(x, f"/posts/{acts['reply']}").articles
    assert shows(above, "@ben", "what do you sow in March?")
    assert shows(own, "Peas, and patience")
    asked, answer = read(x, "/posts/102").articles
    assert shows(asked, "1 answer")
    assert shows(answer, "Peas, and patience")
    assert shows(read(x, "/posts/103").articles[1], "True of dough & code")


def test_a_person_has_a_page(x: Controlled, acts: dict[str, str]) -> None:
    assert acts
    person, post = read(x, "/people/ADA").articles
    assert shows(person, "@ada", "1 post")
    assert shows(post, "The <b>first</b> word about gardens")
    assert len(read(x, "/people/fleet").articles) == 1 + 3


@pytest.mark.parametrize(
    "path", ["/posts/404", "/posts/moon", "/posts/99999999999999999999", "/people/nobody", "/people/%3Cb%3E"]
)
def test_what_is_not_there_is_a_404_page(x: Controlled, path: str) -> None:
    assert read(x, path, 404).articles == []


@pytest.mark.parametrize("path", ["/", "/?show=mentions", "/?show=world", "/posts/102", "/people/fleet"])
def test_a_page_holds_no_script_no_style_of_its_own_and_nothing_from_elsewhere(
    x: Controlled, acts: dict[str, str], path: str
) -> None:
    assert acts
    page = read(x, path)
    assert not page.tags & {"script", "style", "iframe", "form", "img", "object"}
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    assert all(re.match(r"/(?!/)", link) for link in page.links)
    policy = requests.get(x.sandbox.url + path, timeout=20).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")


def test_links_on_the_pages_lead_somewhere(x: Controlled, acts: dict[str, str]) -> None:
    assert acts
    found = {
        link for path in ("/", "/?show=world", "/posts/102", "/people/ada") for link in read(x, path).links
    }
    for link in found:
        assert requests.get(x.sandbox.url + link, timeout=20).status_code == 200, link


def test_the_frame_shows_tier_time_world_and_faults(x: Controlled) -> None:
    x.arm("accept_then_504", path="POST /2/tweets", count=3)
    x.arm("slow_body", probability=0.25, path="/2/<b>")
    page = requests.get(f"{x.sandbox.url}/", timeout=20).text
    x.clear()
    for shown in ("enterprise", "world.csv", "accept_then_504", "3 of 3 left", "probability 0.25", "UTC"):
        assert shown in page
    assert "/2/&lt;b&gt;" in page


def test_a_long_record_goes_on_behind_a_link(tmp_path: Path) -> None:
    rows = (f"{number},2026-01-01T10:00:00Z,Word {number},ada,0\n" for number in range(1, 96))
    with controlled(tmp_path / "x", "id,created_at,text,user,likes\n" + "".join(rows)) as x:
        seen: list[str] = []
        path: str | None = "/people/ada"
        while path:
            page = read(x, path)
            seen += re.findall(r"Word (\d+)", " ".join(page.articles))
            path = next((link for link in page.links if "before=" in link), None)
        assert seen == [str(number) for number in range(95, 0, -1)]
