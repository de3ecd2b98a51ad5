"""Population: the world's people as users of X, and what they say as posts.

OptionError     a world can't be made of these numbers; the text says which are allowed
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from sandbox.world import law as laws
from sandbox.world import past as pasts
from sandbox.world import phrases
from sandbox.world.law import Law
from sandbox.world.life import HOME_TOPICS
from sandbox.world.population import Population
from sandbox.world.speech import Utterance
from sandbox.x import snowflakes
from sandbox.x.posts import Batch, Metrics, PlainPost, Post, User
from sandbox.x.wire import search
from sandbox.x.world.worlds import World, user_id

GENERATION = 1  # raised when the same numbers make another world than before
FIRST_FOLLOWERS = 0.25  # of the people: an account that nobody follows would wait long for its first answer
DAY_MS = 86_400_000
AT_ONCE = 1000  # posts of the past that are handed over together

_NONE_YET = Metrics()

# Away from the account's own ids, which take the first numbers of their millisecond.
SEQUENCE = 1 << 16

DEFAULTS = {"seed": 1, "people": 400, "posts": 6000, "mentions": 60}
LIMITS = {"seed": (0, 2**63 - 1), "people": (1, 20_000), "posts": (1, 1_000_000), "mentions": (0, 3600)}


class OptionError(ValueError):
    """A world can't be made of these numbers."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a world is made from.

    Attributes:
        seed: Another one makes other people, other posts, other luck.
        people: How many live there.
        posts: How many posts the last 7 days have; life goes on at their pace. 0 in a file's world.
        mentions: How many times an hour somebody names the account, its own posts aside.
    """

    seed: int
    people: int
    posts: int
    mentions: int


def choose(*, in_file: bool = False, **given: int | None) -> Options:
    """The numbers that were given, by the names of `Options`, and the usual ones; raises OptionError.

    In a file's world people don't talk unless they are asked to: `posts` is none, `mentions` is 0 by default.
    """
    if in_file and given.get("posts") is not None:
        raise OptionError(f"--posts is {given['posts']}: leave it out, a file's world has its own posts")
    usual = {**DEFAULTS, "posts": 0, "mentions": 0} if in_file else DEFAULTS
    chosen = {name: usual[name] if given.get(name) is None else given[name] for name in usual}
    for name, value in chosen.items():
        least, most = LIMITS[name]
        if given.get(name) is not None and not least <= (value or 0) <= most:
            raise OptionError(f"--{name} is {value}: expected {least} to {most}")
    return Options(**{name: value or 0 for name, value in chosen.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Inhabited:
    """A world's people, the law, and the account for which they are there."""

    options: Options
    account: User

    @cached_property
    def law(self) -> Law:
        """By which they react."""
        return laws.default()

    @cached_property
    def population(self) -> Population:
        """Who they are."""
        return Population.make(
            str(self.options.seed),
            self.options.people,
            taken=self.account.username,
            most=self.law.most,
            hours=self.law.hours,
        )

    @cached_property
    def ids(self) -> list[int]:
        """Each person's user id."""
        return [user_id(person.username) for person in self.population.people]

    @cached_property
    def indexes(self) -> Mapping[int, int]:
        """Which person a user id belongs to."""
        return {one: index for index, one in enumerate(self.ids)}

    @cached_property
    def first_followers(self) -> list[int]:
        """Who follows the account from the start."""
        return self.population.first_followers(range(HOME_TOPICS), FIRST_FOLLOWERS)

    def digest(self, file: bytes = b"") -> str:
        """What tells this world from another: its numbers, its words, its law, its file's content."""
        made = hashlib.sha256(f"{GENERATION} {self.options} {self.account.username}".encode())
        made.update(hashlib.sha256(file).digest())
        made.update(phrases.source())
        made.update(laws.source())
        return made.hexdigest()

    def world(self, start_ms: int, past: Iterable[Batch] | None = None) -> World:
        """The people with what they said in the 7 days before the start (milliseconds since 1970).

        Args:
            start_ms: The start.
            past: The same start's `past`, where the caller has it made elsewhere.
        """
        return World(
            digest=self.digest(),
            users=self.users(start_ms),
            posts=[],
            past=self.past(start_ms) if past is None else past,
            follows=self.follows(),
        )

    def past(self, start_ms: int) -> Iterator[Batch]:
        """What the people said in the 7 days before (milliseconds since 1970), `AT_ONCE` posts at a time."""
        said = pasts.past(
            self.population,
            identify,
            count=self.options.posts,
            end_ms=start_ms,
            account=self.account.username,
        )
        ids, people = self.ids, self.population.people
        while some := list(islice(said, AT_ONCE)):
            posts = [_plain(one, post_id, ids[one.person]) for post_id, one in some]
            words = [
                (post.id, post.text, search.marks(post, people[one.person].username))
                for post, (_, one) in zip(posts, some, strict=True)
            ]
            yield Batch(posts, words)

    def joining(self, world: World, file: bytes, start_ms: int) -> World:
        """A file's world with the people in it; whoever has the name of one of its users is that user."""
        known = {user.id for user in world.users}
        return replace(
            world,
            digest=self.digest(file),
            users=world.users + [user for user in self.users(start_ms) if user.id not in known],
            follows=self.follows(),
        )

    def users(self, start_ms: int) -> list[User]:
        """The people as users; the world sees only some of their followers."""
        followed = self._following
        return [
            User(
                id=one,
                username=person.username,
                name=person.name,
                created_ms=start_ms - person.joined_days * DAY_MS,
                description=person.description,
                location=person.zone.partition("/")[2].replace("_", " "),
                followers=person.reach,
                following=followed[person.index],
            )
            for one, person in zip(self.ids, self.population.people, strict=True)
        ]

    @cached_property
    def _graph(self) -> list[tuple[int, int]]:
        return self.population.follows()

    @property
    def _following(self) -> list[int]:
        counts = [0] * len(self.ids)
        for one, _ in self._graph:
            counts[one] += 1
        for one in self.first_followers:
            counts[one] += 1
        return counts

    def follows(self) -> list[tuple[int, int]]:
        """Who follows whom, by user id; the account's first followers among them."""
        ids = self.ids
        among = [(ids[one], ids[other]) for one, other in self._graph]
        return among + [(ids[one], self.account.id) for one in self.first_followers]


def identify(at_ms: int, last_id: int) -> int:
    """The id of somebody's post: above the last one's, and apart from the account's of the same moment."""
    return max(snowflakes.from_time(at_ms, SEQUENCE), last_id + 1)


def to_post(said: Utterance, post_id: int, author_id: int) -> Post:
    """What somebody said, as a post."""
    return Post(
        id=post_id,
        author_id=author_id,
        text=said.text,
        created_ms=said.at_ms,
        lang=said.language,
        metrics=_NONE_YET,
        reply_to=said.reply_to,
        quote_of=said.quote_of,
        repost_of=said.repost_of,
        conversation_id=said.conversation,
    )


def _plain(said: Utterance, post_id: int, author_id: int) -> PlainPost:
    return PlainPost(
        post_id,
        author_id,
        said.text,
        said.at_ms,
        said.language,
        said.reply_to,
        said.quote_of,
        said.repost_of,
        said.conversation,
    )


def link(username: str, post_id: int) -> str:
    """A post's address on X."""
    return f"https://x.com/{username}/status/{post_id}"
