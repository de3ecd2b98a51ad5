"""Reaction: what people do with one post of the account, and when; a pure function of what is given."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.world.chance import COLUMNS, Chance, Table, waited
from sandbox.world.law import ACTS, Law
from sandbox.world.population import Population
from sandbox.world.traits import Traits

# The columns of the row of random numbers that belongs to a post and somebody who saw it.
QUICK, DELAY = 0, 1
DECIDE = {act: 2 + number for number, act in enumerate(ACTS)}
ACT_DELAY = {act: 8 + number for number, act in enumerate(ACTS)}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a post has gained."""

    impressions: int = 0
    likes: int = 0
    replies: int = 0
    reposts: int = 0
    quotes: int = 0
    bookmarks: int = 0


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that somebody does; `at_ms` counts from 1970."""

    at_ms: int
    person: int


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """All that people will ever do with a post, each kind in the order of time."""

    seen_ms: list[int]
    acts: Mapping[str, list[Deed]]

    def counts(self, at_ms: int) -> Counts:
        """What the post has gained by a time: a later reading is never smaller."""
        return Counts(
            impressions=bisect_right(self.seen_ms, at_ms),
            likes=self._count("like", at_ms),
            replies=self._count("reply", at_ms),
            reposts=self._count("repost", at_ms),
            quotes=self._count("quote", at_ms),
            bookmarks=self._count("bookmark", at_ms),
        )

    def _count(self, act: str, at_ms: int) -> int:
        return bisect_right(self.acts[act], at_ms, key=lambda deed: deed.at_ms)


def react(
    law: Law,
    population: Population,
    *,
    post_id: int,
    at_ms: int,
    traits: Traits,
    followers: Mapping[int, int],
    addressed: int | None = None,
) -> Reaction:
    """What people do with a post of the account.

    Args:
        law: By which they do it.
        population: Who they are.
        post_id: The post, to which its random numbers belong.
        at_ms: When it was published.
        traits: What the law sees in it.
        followers: Since when (milliseconds since 1970) each person who ever follows the account does.
        addressed: The person to whom it replies.
    """
    luck = law.noise(Chance("luck", population.seed, post_id).fraction())
    wanted = [(act, chance * luck) for act, chance in law.acts(traits).items()]
    following = {person for person, since_ms in followers.items() if since_ms <= at_ms}
    interests = interest_in(law, population, traits)
    table = Table("reads", population.seed, post_id)
    seen_ms: list[int] = []
    acts: dict[str, list[Deed]] = {act: [] for act in ACTS}
    for index in _readers(law, population, post_id, at_ms, traits, following, addressed):
        row = table.row(index)
        mean_s = law.delay.quick_s if row[QUICK] < law.delay.quick_share else law.delay.slow_s
        saw_ms = at_ms + 1 + int(waited(row[DELAY], mean_s) * 1000)
        seen_ms.append(saw_ms)
        fit = law.fits(interests[index])
        temperament = population.people[index].temperament
        for act, wish in wanted:
            if row[DECIDE[act]] < wish * fit * getattr(temperament, act):
                if act == "follow" and index in following:
                    continue
                after_ms = int(waited(row[ACT_DELAY[act]], law.delay.act_s[act]) * 1000)
                acts[act].append(Deed(at_ms=saw_ms + 1 + after_ms, person=index))
    for deeds in acts.values():
        deeds.sort(key=lambda deed: deed.at_ms)
    return Reaction(seen_ms=sorted(seen_ms), acts=acts)


def _readers(
    law: Law,
    population: Population,
    post_id: int,
    at_ms: int,
    traits: Traits,
    following: set[int],
    addressed: int | None,
) -> list[int]:
    """Who sees the post. It is the costly part, so `Law.channel` is written out for everybody at once."""
    seen = law.seen(traits)
    known = law.seeing.follower * seen
    strange = law.seeing.stranger * law.reach(len(following), len(population.people)) * seen
    chances = [
        strange * interest * attention
        for interest, attention in zip(
            interest_in(law, population, traits), population.attention(at_ms), strict=True
        )
    ]
    attention = population.attention(at_ms)
    for index in following:
        chances[index] = known * attention[index]
    if addressed is not None:
        chances[addressed] = law.seeing.answered
    table = Table("sees", population.seed, post_id)
    found: list[int] = []
    for first in range(0, len(chances), COLUMNS):
        some = chances[first : first + COLUMNS]
        row = table.row(first)
        found += [first + place for place, chance in enumerate(some) if row[place] < chance]
    return found


def interest_in(law: Law, population: Population, traits: Traits) -> list[float]:
    """Each person's interest in a post."""
    if not traits.topics:
        return [law.fit.unknown] * len(population.people)
    return population.interest(traits.topics)
