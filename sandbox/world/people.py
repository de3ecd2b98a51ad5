"""People: who lives in the world. A seed and a number give the same people everywhere."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

from sandbox.world import phrases
from sandbox.world.chance import Chance
from sandbox.world.phrases import Topic

Kind = Literal["ordinary", "spammer", "sloppy", "foreign"]

# Most people live in Europe, so that the hour of a post matters.
ZONES = {
    "Europe/Lisbon": 6,
    "Europe/London": 14,
    "Europe/Paris": 14,
    "Europe/Berlin": 16,
    "Europe/Helsinki": 5,
    "Europe/Istanbul": 3,
    "Africa/Lagos": 3,
    "America/Sao_Paulo": 5,
    "America/New_York": 12,
    "America/Chicago": 5,
    "America/Los_Angeles": 6,
    "Asia/Kolkata": 4,
    "Asia/Singapore": 3,
    "Asia/Tokyo": 3,
    "Australia/Sydney": 1,
}
SPAMMERS, SLOPPY, FOREIGN = 0.03, 0.05, 0.05  # shares of the people
SHY = 0.06  # of the ordinary ones: they don't want to be answered
MAX_NAME = 15  # the shortest limit among the platforms
MAX_REACH = 400_000


@dataclass(frozen=True, kw_only=True)
class Temperament:
    """How much somebody does, against the average person: 1 is average.

    `posts_per_day` is a number of posts. The others multiply the law's chances; none is above its `most`.
    """

    posts_per_day: float
    like: float
    reply: float
    repost: float
    quote: float
    bookmark: float
    follow: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody in the world.

    Attributes:
        index: Their number, from 0.
        username: Letters, digits and `_`; at most 15, unique in any case.
        name: What they call themselves.
        description: A line about them.
        zone: Their IANA time zone.
        shift_h: Their habit: hours by which their day is later than their neighbours'.
        language: The language they write in.
        interests: Their interest in each topic, 0 to 1.
        reach: Their followers, those outside of the world among them.
        kind: Whether they behave.
        shy: Whether they would rather not be answered by an account.
        temperament: How much they do.
        joined_days: How long they have been there when the world begins.
    """

    index: int
    username: str
    name: str
    description: str
    zone: str
    shift_h: int
    language: str
    interests: tuple[float, ...]
    reach: int
    kind: Kind
    shy: bool
    temperament: Temperament
    joined_days: int

    @property
    def wakes_h(self) -> int:
        """The hour of their own day at which they wake; they are awake for 16 hours."""
        return (7 + self.shift_h) % 24

    @cached_property
    def favourite(self) -> int:
        """The number of the topic they like best."""
        return self.interests.index(max(self.interests))

    @cached_property
    def tastes(self) -> list[float]:
        """Running sums of how likely they are to talk about each topic."""
        return list(accumulate(interest * interest for interest in self.interests))


def people(seed: str, count: int, *, taken: str, most: float) -> list[Person]:
    """The world's people.

    Args:
        seed: Another seed gives other people.
        count: How many; the first of them are the same in a greater world.
        taken: A username that nobody may have: the account's.
        most: The greatest factor that a temperament may hold.
    """
    names = {taken.lower()}
    made: list[Person] = []
    for index in range(count):
        person = _person(Chance("person", seed, index), index, names, most)
        names.add(person.username.lower())
        made.append(person)
    return made


def _person(chance: Chance, index: int, names: set[str], most: float) -> Person:
    kind = _kind(chance.fraction())
    interests = _interests(chance)
    first, second = sorted(range(len(interests)), key=lambda topic: -interests[topic])[:2]
    topics = phrases.topics()
    name = chance.pick(phrases.listed("names"))
    zones = list(ZONES)
    return Person(
        index=index,
        username=_username(chance, name, topics[first], names),
        name=f"{name} {chance.pick(phrases.listed('surnames'))}",
        description=chance.pick(phrases.listed("selves")).format(
            topic=topics[first].name, other=topics[second].name
        ),
        zone=zones[chance.weighed(list(accumulate(ZONES.values())))],
        shift_h=round(max(-2.0, min(4.0, chance.normal() * 1.3))),
        language=chance.pick(phrases.languages()) if kind == "foreign" else "en",
        interests=interests,
        reach=min(MAX_REACH, int(chance.heavy(25, 1.05)) if kind == "ordinary" else chance.below(120)),
        kind=kind,
        shy=kind == "ordinary" and chance.happens(SHY),
        temperament=_temperament(chance, kind, most),
        joined_days=30 + chance.below(4000),
    )


def _kind(fraction: float) -> Kind:
    if fraction < SPAMMERS:
        return "spammer"
    if fraction < SPAMMERS + SLOPPY:
        return "sloppy"
    return "foreign" if fraction < SPAMMERS + SLOPPY + FOREIGN else "ordinary"


def _interests(chance: Chance) -> tuple[float, ...]:
    """Two to five topics by their popularity, the others hardly at all."""
    cumulative = list(accumulate(topic.popularity for topic in phrases.topics()))
    found = [0.05] * len(cumulative)
    for _ in range(2 + chance.below(4)):
        found[chance.weighed(cumulative)] = round(chance.between(0.45, 1.0), 3)
    return tuple(found)


def _username(chance: Chance, name: str, topic: Topic, names: set[str]) -> str:
    words = [word.replace(" ", "") for word in topic.words]
    word = chance.pick([word for word in words if len(name) + 1 + len(word) <= MAX_NAME] or ["is"])
    made = f"{name}_{word}".lower() if chance.happens(0.7) else f"{name}{word.capitalize()}"
    while made.lower() in names:
        number = str(chance.below(10_000))
        made = made.rstrip("0123456789")[: MAX_NAME - len(number)] + number
    return made


def _temperament(chance: Chance, kind: Kind, most: float) -> Temperament:
    def factor() -> float:
        """Around 1, seldom far from it; the ill-behaved care about nobody's posts."""
        drawn = round(min(most, chance.between(0.2, 1.0) + min(chance.heavy(0.1, 1.2), 2.0)), 3)
        return drawn if kind in {"ordinary", "foreign"} else drawn * 0.1

    busy = {"ordinary": 1.4, "foreign": 1.2, "sloppy": 4.0, "spammer": 9.0}[kind]
    return Temperament(
        posts_per_day=round(busy * min(6.0, chance.heavy(0.5, 1.5)), 3),
        like=factor(),
        reply=factor(),
        repost=factor(),
        quote=factor(),
        bookmark=factor(),
        follow=factor(),
    )
