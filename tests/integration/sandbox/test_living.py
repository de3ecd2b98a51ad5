"""A world that lives: what happened is in the store before anybody is answered, once, whatever breaks."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.world import phrases
from sandbox.world.chance import Chance
from sandbox.x import snowflakes
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Span, Store
from sandbox.x.wire import search
from sandbox.x.world import population, worlds
from sandbox.x.world.living import CATCH_UP, Living
from sandbox.x.world.population import Inhabited

START_MS = 1_795_000_000_000
MINUTE_MS = 60_000
ACCOUNT = User(id=12, username="the_fleet", name="Fleet", created_ms=0)
TEXT = "What do you drink with your first open source release: coffee or tea? I ask for a friend who ships."


class World:
    """A store with a small world in it, alive."""

    def __init__(self, path: Path, *, people: int = 150, posts: int = 1500, mentions: int = 60) -> None:
        options = population.choose(people=people, posts=posts, mentions=mentions)
        self.inhabited = Inhabited(options=options, account=ACCOUNT)
        self.store = Store(path, ACCOUNT)
        if self.store.meta("world") != self.inhabited.digest():
            self.store.replace_world(self.inhabited.world(START_MS))
        self.living = Living(self.store, self.inhabited, grows=True, now_ms=START_MS)
        self.store.reactions = self.living.reactions

    def post(self, text: str, at_ms: int) -> Post:
        self.living.until(at_ms)
        return self.store.accept_post(text, lang="en", at_ms=at_ms)

    def happened(self) -> list[Post]:
        """What others posted since the world began, oldest first, without their counts."""
        span = Span(since_id=snowflakes.from_time(START_MS))
        found = self.store.search(search.mark("post"), span, 100_000)
        return [post for post in reversed(found) if post.author_id != ACCOUNT.id]

    def mentions(self) -> list[Post]:
        found = self.store.search(search.mark("at_the_fleet"), Span(), 10_000)
        return [post for post in reversed(found) if post.author_id != ACCOUNT.id]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "x.sqlite")
    yield made
    made.store.close()


def told(posts: list[Post]) -> list[tuple[int, int, str]]:
    return [(post.id, post.author_id, post.text) for post in posts]


def test_how_often_one_looks_changes_nothing(tmp_path: Path) -> None:
    stories: list[list[tuple[int, int, str]]] = []
    for step_ms in (700, 45_000, 1_800_000):
        one = World(tmp_path / f"{step_ms}.sqlite")
        one.post(TEXT, START_MS + 1)
        for at_ms in range(START_MS, START_MS + 1_800_001, step_ms):
            one.living.until(at_ms)
        one.living.until(START_MS + 1_800_000)
        one.living.until(START_MS + 900_000)  # an earlier time changes nothing either
        stories.append(told(one.happened()))
        one.store.close()
    assert stories[0] == stories[1] == stories[2]
    assert len(stories[0]) > 30


def test_what_is_new_stands_above_every_cursor(world: World) -> None:
    world.post(TEXT, START_MS)
    seen_id, seen_ms = snowflakes.from_time(START_MS), START_MS
    for at_ms in range(START_MS, START_MS + 30 * MINUTE_MS, 7_919):
        world.living.until(at_ms)
        new = world.store.search(search.mark("at_the_fleet"), Span(since_id=seen_id), 100)
        assert all(seen_ms < post.created_ms <= at_ms for post in new)
        assert all(snowflakes.time_ms(post.id) == post.created_ms for post in new)
        seen_id, seen_ms = max([seen_id, *(post.id for post in new)]), at_ms
    assert len(world.mentions()) > 30
    assert seen_id == world.mentions()[-1].id


def test_ten_minutes_hold_what_a_fleet_must_tell_apart(world: World) -> None:
    own = world.post(TEXT, START_MS)
    world.living.until(START_MS + 10 * MINUTE_MS)
    texts = [post.text for post in world.mentions()]
    direct = [text for text in texts if text.startswith("@the_fleet")]
    assert sum("?" in text for text in direct) >= 2
    (link,) = [found[1] for text in direct if (found := re.search(r"/status/(\d+)", text))]
    assert world.store.post(int(link))
    assert any(re.search(r"(?i)\bstop\b|don't reply", text) for text in direct)
    assert any("@the_fleet" in text and not text.startswith("@") for text in texts)
    chained = [post for post in world.mentions() if re.match(r"@\w+ @the_fleet ", post.text)]
    assert [world.store.author_of(post.reply_to or 0) != ACCOUNT.id for post in chained] == [True]
    assert world.store.quotes_of(own.id, Span(), 10)


def test_a_reading_never_falls_and_replies_and_likes_are_real(world: World) -> None:
    own = world.post(TEXT, START_MS)
    last: dict[str, int] = {}
    for minutes in (0, 1, 2, 5, 30, 120, 600, 1440):
        now_ms = START_MS + minutes * MINUTE_MS
        world.living.until(now_ms)
        stands = world.store.post(own.id)
        assert stands
        found = vars(world.store.reactions.of(stands, now_ms))
        assert all(found[name] >= count for name, count in last.items())
        last = found
        if minutes == 1:
            assert found["impressions"] > 0
    assert last["likes"] == len(world.store.people.liking_users(own.id, snowflakes.MAX_ID, 1000)) > 0
    assert last["replies"] == len(world.store.replies_to(own.id, 1000))
    assert last["impressions"] > last["likes"] >= last["bookmarks"]


def test_followers_come_by_the_law_and_are_counted(world: World) -> None:
    def followers() -> int:
        account = world.store.user(ACCOUNT.id)
        assert account
        return account.followers

    first = followers()
    assert first == round(150 * population.FIRST_FOLLOWERS)
    for hour in range(24):
        chance = Chance("a post", hour)
        text = phrases.to_all(chance, "plain", chance.pick(phrases.topics()[:5]))
        world.post(text, START_MS + hour * 3_600_000)
    world.living.until(START_MS + 30 * 3_600_000)
    assert followers() > first
    assert followers() == len(world.store.people.followers(ACCOUNT.id, snowflakes.MAX_ID, 1000))
    assert followers() == len(world.living.reactions.followers)


def test_saying_the_same_again_is_worth_less(world: World) -> None:
    hour_ms = 3_600_000
    first = world.post(TEXT, START_MS)
    second = world.post(TEXT + " Really.", START_MS + hour_ms)
    counts = [world.living.reactions.reaction(post) for post in (first, second)]
    assert len(counts[1].seen_ms) < len(counts[0].seen_ms) / 2


def test_peoples_posts_gain_with_age_and_never_lose(world: World) -> None:
    posts = [post for post in world.store.newest_posts(snowflakes.MAX_ID, 200) if not post.repost_of]
    young = [world.store.reactions.of(post, START_MS) for post in posts]
    old = [world.store.reactions.of(post, START_MS + 30 * 3_600_000) for post in posts]
    assert all(before.likes <= after.likes for before, after in zip(young, old, strict=True))
    assert sum(one.impressions for one in young) < sum(one.impressions for one in old)
    assert sum(one.likes for one in old) > 20


LIFE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_living import MINUTE_MS, START_MS, TEXT, World
world = World(Path(sys.argv[1]))
for step in range(10_000):
    now_ms = START_MS + step * 13_000
    world.living.until(now_ms)
    if step % 20 == 5 and not world.store.has_recent_text(f"{TEXT} {step}", now_ms):
        world.store.accept_post(f"{TEXT} {step}", lang="en", at_ms=now_ms)
    print(now_ms, flush=True)
"""


def test_a_killed_life_goes_on_without_a_gap_or_a_repeat(tmp_path: Path) -> None:
    steps = 330

    def live(name: str, stops: list[int]) -> list[tuple[int, int, str]]:
        """Run to the end, killed with SIGKILL after each of some steps; each next life goes on from there."""
        path = tmp_path / name
        for stop in stops:
            process = subprocess.Popen(
                [sys.executable, "-c", LIFE, path, Path(__file__).parent],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[3],
            )
            with process:
                assert process.stdout
                for line in process.stdout:
                    if int(line) >= START_MS + stop * 13_000:
                        break
                process.send_signal(signal.SIGKILL)
        end = World(path)
        end.living.until(START_MS + steps * 13_000)
        found = told([post for post in end.happened() if post.created_ms <= START_MS + steps * 13_000])
        likes = end.store.people.liking_users(
            end.store.posts_of(12, Span(), 1)[-1].id, snowflakes.MAX_ID, 999
        )
        end.store.close()
        return [*found, *((user.id, 0, "likes") for user in likes)]

    whole = live("whole.sqlite", [steps])
    assert live("killed.sqlite", [3, 26, 27, 90, 170, 171, steps]) == whole
    assert len(whole) > 60


def test_a_long_stop_is_made_up_for_by_its_end_alone(world: World) -> None:
    before = len(world.happened())
    year_ms = 365 * 86_400_000
    own = world.post(TEXT, START_MS)
    world.living.until(START_MS + year_ms)
    new = world.happened()[before:]
    assert len(new) < CATCH_UP * 1.2
    recent = [post for post in new if own.id not in {post.reply_to, post.quote_of}]
    assert min(post.created_ms for post in recent) > START_MS + year_ms - 86_500_000
    assert [post.id for post in new] == sorted(post.id for post in new)
    stands = world.store.post(own.id)
    assert stands
    assert world.store.reactions.of(stands, START_MS + year_ms).replies == stands.metrics.replies


def test_a_worlds_numbers_decide_what_it_is(tmp_path: Path) -> None:
    stories: list[object] = []
    for name, people in (("a", 150), ("b", 150), ("c", 151)):
        one = World(tmp_path / name, people=people)
        one.living.until(START_MS + 10 * MINUTE_MS)
        stories.append((one.store.meta("world"), told(one.happened())))
        one.store.close()
    assert stories[0] == stories[1] != stories[2]


@pytest.mark.parametrize(("mentions", "expected"), [(None, 0), (60, 10)])
def test_in_a_files_world_people_only_react_unless_they_are_asked(
    tmp_path: Path, mentions: int | None, expected: int
) -> None:
    content = (
        b"created_at,text,user\n2026-01-01T10:00:00Z,Tea,ada\n2026-01-01T10:00:00Z,More tea,ada_coffee\n"
    )
    options = population.choose(in_file=True, people=300, mentions=mentions)
    inhabited = Inhabited(options=options, account=ACCOUNT)
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    file = worlds.load(Path("world.csv"), content, taken=ACCOUNT.username)
    store.replace_world(inhabited.joining(file, content, START_MS))
    living = Living(store, inhabited, grows=False, now_ms=START_MS)
    own = store.accept_post(TEXT, lang="en", at_ms=START_MS)
    living.until(START_MS + 10 * MINUTE_MS)
    found = store.search(search.mark("post"), Span(since_id=snowflakes.from_time(START_MS)), 1000)
    by_others = [post for post in found if post.author_id != ACCOUNT.id]
    lawful = living.reactions.reaction(own).counts(START_MS + 10 * MINUTE_MS)
    assert len(by_others) == expected + lawful.replies + lawful.quotes
    given = [post for post in store.newest_posts(snowflakes.MAX_ID, 1000) if post.created_ms < START_MS]
    assert [living.reactions.of(post, START_MS) for post in given] == [post.metrics for post in given]
    assert len(given) == 2
    store.close()


def test_how_far_life_is_stands_beside_what_happened(world: World) -> None:
    world.living.until(START_MS + 10 * MINUTE_MS)
    kept = json.loads(world.store.meta("life") or "")
    assert kept["world"] == world.inhabited.digest()
    assert world.happened()[-1].created_ms <= kept["position_ms"] <= START_MS + 10 * MINUTE_MS
