"""Living: what happened since the last look, put into the store before anybody is answered.

The people's life and the law's reactions are functions of time; this module takes from them what is due. How
far it came stands in the same transaction as what it took, so that a killed sandbox goes on where it was,
without a gap or a repeat.
"""

import heapq
import json
from collections import deque
from dataclasses import dataclass, field

from sandbox.world import traits
from sandbox.world.life import DAY_SLOTS, SLOT_MS, Life, Said
from sandbox.world.reaction import Deed
from sandbox.world.speech import Heard, Utterance
from sandbox.x import snowflakes
from sandbox.x.posts import Post
from sandbox.x.store.store import Span, Store
from sandbox.x.world import population
from sandbox.x.world.population import DAY_MS, Inhabited
from sandbox.x.world.reactions import LawfulReactions

KEY = "life"
CATCH_UP = 2000  # events: after a long stop only the most recent ones are made up for
HEARD = 300  # other people's latest posts, among which somebody finds one to answer
OWN = 20  # the account's latest posts, among which somebody finds one to quote
REMEMBERED_MS = DAY_MS  # reactions to older posts are over, but for one in hundreds of thousands
OWN_PAGE = 500  # posts of the account looked at in one go


@dataclass(order=True, frozen=True)
class _Due:
    """A reaction that will happen."""

    at_ms: int
    person: int
    act: str
    post: Post = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """Somebody's post, and what it may be answered with."""

    at_ms: int
    answers: bool
    names_account: bool
    heard: Heard


class Living:
    """A world's life. Its time never goes back; a look at an earlier time changes nothing."""

    def __init__(self, store: Store, inhabited: Inhabited, *, grows: bool, now_ms: int) -> None:
        """Goes on from where the store says its life is, or begins now.

        Args:
            store: What is known; its world must be in place.
            inhabited: Whose life it is.
            grows: Whether people talk to each other: not in a file's world.
            now_ms: The time, in milliseconds since 1970.
        """
        options = inhabited.options
        self.reactions = LawfulReactions(store, inhabited, grows=grows)
        self._store = store
        self._inhabited = inhabited
        self._life = Life(
            population=inhabited.population,
            account=store.account.username,
            link=population.link,
            posts_per_day=options.posts / 7 if grows else 0.0,
            mentions_per_hour=float(options.mentions),
        )
        self._due: list[_Due] = []
        self._talk: deque[Utterance] = deque()
        self._position_ms = now_ms
        self._resume(now_ms)
        self._slot = self._position_ms // SLOT_MS
        self._made_slot = False
        self._own_id = snowflakes.from_time(self._position_ms - REMEMBERED_MS)
        self._notice(after_ms=self._position_ms)
        latest = self._latest()
        self._last_id = latest[-1].id if latest else 0
        self._heard = deque((self._hear(post) for post in latest), maxlen=2 * HEARD)

    def until(self, now_ms: int) -> None:
        """Lets everything happen that is due by a time (milliseconds since 1970); cheap when nothing is."""
        self._notice()
        if now_ms <= self._position_ms:
            return
        self._skip(now_ms)
        posts: list[Post] = []
        acts: list[_Due] = []
        while True:
            end_ms = min(now_ms, (self._slot + 1) * SLOT_MS - 1)
            self._make_slot()
            self._take(end_ms, posts, acts)
            if end_ms == now_ms:
                break
            self._slot += 1
            self._made_slot = False
        self._position_ms = now_ms
        if posts or acts:
            self._keep(posts, acts)

    # What the account did

    def _notice(self, *, after_ms: int = 0) -> None:
        """Works out the reactions to the account's posts since the last look, the oldest first.

        Those up to `after_ms` have happened already.
        """
        while found := self._store.posts_of(self._store.account.id, Span(since_id=self._own_id), OWN_PAGE):
            for post in reversed(found):
                if post.repost_of is None:
                    self._react(post, after_ms)
            self._own_id = found[0].id
            if len(found) < OWN_PAGE:
                break

    def _react(self, post: Post, after_ms: int) -> None:
        for act, deeds in self.reactions.reaction(post).acts.items():
            for deed in deeds:
                if act == "follow":
                    since_ms = self.reactions.followers.get(deed.person, deed.at_ms)
                    self.reactions.followers[deed.person] = min(since_ms, deed.at_ms)
                if act in {"like", "reply", "quote", "follow"} and deed.at_ms > after_ms:
                    heapq.heappush(self._due, _Due(at_ms=deed.at_ms, person=deed.person, act=act, post=post))

    # What is due

    def _skip(self, now_ms: int) -> None:
        """After a long stop, leaves out all but the most recent talk; reactions come late, not never."""
        per_slot = self._life.posts_per_day / DAY_SLOTS + self._life.mentions_per_hour / 60
        slots = min(DAY_SLOTS, max(1, int(CATCH_UP / per_slot))) if per_slot else DAY_SLOTS
        first = now_ms // SLOT_MS - slots
        if first > self._slot:
            self._slot, self._made_slot = first, False
            self._talk.clear()

    def _make_slot(self) -> None:
        if self._made_slot:
            return
        begin_ms = self._slot * SLOT_MS
        self._made_slot = True
        made = self._life.slot(self._slot, self._said(begin_ms))
        self._talk = deque(one for one in made if one.at_ms > self._position_ms)

    def _take(self, end_ms: int, posts: list[Post], acts: list[_Due]) -> None:
        """Moves what is due by a time into the lists, ids rising with time."""
        while True:
            talk_ms = self._talk[0].at_ms if self._talk else end_ms + 1
            due_ms = self._due[0].at_ms if self._due else end_ms + 1
            if min(talk_ms, due_ms) > end_ms:
                return
            if talk_ms <= due_ms:
                posts.append(self._post(self._talk.popleft()))
                continue
            due = heapq.heappop(self._due)
            if due.act in {"like", "follow"}:
                acts.append(due)
            else:
                deed = Deed(at_ms=max(due.at_ms, self._position_ms + 1), person=due.person)
                own = self._as_heard(due.post, self._store.account.username)
                posts.append(self._post(self._life.answer(own, deed, due.act)))

    def _post(self, said: Utterance) -> Post:
        self._last_id = population.identify(said.at_ms, self._last_id)
        post = population.to_post(said, self._last_id, self._inhabited.ids[said.person])
        self._heard.append(self._hear(post))
        return post

    # What people heard

    def _said(self, begin_ms: int) -> Said:
        """What had been said before a moment: the same whether it is asked now or after a restart."""
        before = [one for one in self._heard if one.at_ms < begin_ms][-HEARD:]
        own_id, name = self._store.account.id, self._store.account.username
        own = self._store.posts_of(own_id, Span(end_ms=begin_ms), OWN)
        return Said(
            heard=[one.heard for one in before if not one.answers and not one.names_account],
            mentions=[one.heard for one in before if one.names_account],
            own=[
                self._as_heard(post, name)
                for post in reversed(own)
                if post.reply_to is None and post.repost_of is None
            ],
        )

    def _hear(self, post: Post) -> _Heard:
        index = self._inhabited.indexes.get(post.author_id)
        if index is not None:
            name = self._inhabited.population.people[index].username
        else:
            author = self._store.user(post.author_id)
            name = author.username if author else "?"
        account = self._store.account.username.lower()
        return _Heard(
            at_ms=post.created_ms,
            answers=post.reply_to is not None or post.repost_of is not None,
            names_account=post.repost_of is None and f"@{account}" in post.text.lower(),
            heard=self._as_heard(post, name),
        )

    def _as_heard(self, post: Post, username: str) -> Heard:
        topics = traits.topics(post.text)
        return Heard(
            id=post.id,
            username=username,
            text=post.text,
            topic=topics[0] if topics else -1,
            conversation=post.conversation,
        )

    def _latest(self) -> list[Post]:
        """Other people's latest posts, oldest first."""
        found: list[Post] = []
        until_id = snowflakes.MAX_ID
        while len(found) < 2 * HEARD:
            page = self._store.newest_posts(until_id, 2 * HEARD)
            found += [post for post in page if post.author_id != self._store.account.id]
            if len(page) < 2 * HEARD:
                break
            until_id = page[-1].id
        return found[: 2 * HEARD][::-1]

    # How far it is

    def _resume(self, now_ms: int) -> None:
        kept = json.loads(self._store.meta(KEY) or "{}")
        if kept.get("world") == self._store.meta("world"):
            self._position_ms = int(kept["position_ms"])
            self.reactions.followers |= {int(one): int(at_ms) for one, at_ms in kept["followers"].items()}
        else:
            self._position_ms = now_ms
            self._store.add_life(posts=[], likes=[], follows=[], facts=self._facts())

    def _keep(self, posts: list[Post], acts: list[_Due]) -> None:
        ids, own_id = self._inhabited.ids, self._store.account.id
        self._store.add_life(
            posts=posts,
            likes=[(ids[due.person], due.post.id, due.at_ms) for due in acts if due.act == "like"],
            follows=[(ids[due.person], own_id, due.at_ms) for due in acts if due.act == "follow"],
            facts=self._facts(),
        )

    def _facts(self) -> dict[str, str]:
        grown = {one: at_ms for one, at_ms in self.reactions.followers.items() if at_ms}
        facts = {
            "world": self._store.meta("world"),
            "position_ms": self._position_ms,
            "followers": grown,
        }
        return {KEY: json.dumps(facts)}
