"""Population: the people as a whole: their hours, their interests, whom they follow."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import accumulate
from zoneinfo import ZoneInfo

from sandbox.world import people as persons
from sandbox.world.chance import Chance
from sandbox.world.people import Person

HOUR_MS = 3_600_000
STRANGE = 0.1  # an interest below this is none to share
TRIES = 2  # for each person somebody could follow: most strangers share no interest


@lru_cache(maxsize=4096)
def offset_h(zone: str, hour: int) -> int:
    """How many hours, rounded down, the zone is ahead of UTC in an hour (counted since 1970)."""
    at = datetime.fromtimestamp(hour * 3600, UTC).astimezone(ZoneInfo(zone))
    offset = at.utcoffset()
    return 0 if offset is None else int(offset.total_seconds() // 3600)


@dataclass(frozen=True, eq=False)
class Population:
    """The people of one world, and sums over them that are made once."""

    seed: str
    people: tuple[Person, ...]
    hours: tuple[float, ...]
    """Attention by hour of a person's own day, 0 to 23: the law's."""

    @classmethod
    def make(
        cls, seed: str, count: int, *, taken: str, most: float, hours: tuple[float, ...]
    ) -> "Population":
        """Makes `count` people; `people.people` has the meaning of each."""
        return cls(seed, tuple(persons.people(seed, count, taken=taken, most=most)), hours)

    def attention(self, at_ms: int) -> list[float]:
        """Each person's attention at a time: the law's, at their own hour less their own habit."""
        return _attention(self, at_ms // HOUR_MS)

    def mean_attention(self, at_ms: int) -> float:
        """What the average person's attention is at a time."""
        return _mean_attention(self, at_ms // HOUR_MS)

    def interest(self, topics: Sequence[int]) -> list[float]:
        """Each person's interest in a post on these topics: the mean of them."""
        return _interest(self, tuple(topics))

    def awake(self, at_ms: int) -> list[float]:
        """Running sums of how likely each person is to write at a time, for `Chance.weighed`."""
        return _awake(self, at_ms // HOUR_MS)

    @cached_property
    def days(self) -> Counter[tuple[str, int]]:
        """How many people live by each zone and habit."""
        return Counter((person.zone, person.shift_h) for person in self.people)

    @cached_property
    def posts_per_day(self) -> float:
        """How many posts all people together write in a day."""
        return sum(person.temperament.posts_per_day for person in self.people)

    @cached_property
    def answerers(self) -> list[float]:
        """Running sums of how likely each person is to speak to somebody: their pleasure in replying."""
        return list(accumulate(person.temperament.reply for person in self.people))

    def follows(self) -> list[tuple[int, int]]:
        """Who follows whom, the follower first: by reach and shared interests."""
        return [
            (person.index, followed)
            for person in self.people
            for followed in sorted(self._followed(person, Chance("follows", self.seed, person.index)))
        ]

    def _followed(self, person: Person, chance: Chance) -> set[int]:
        wanted = min(int(chance.heavy(5, 1.3)), 60, len(self.people) - 1)
        mine = [topic for topic, interest in enumerate(person.interests) if interest > STRANGE]
        found: set[int] = set()
        for _ in range(wanted * TRIES):
            other = bisect_right(self._renown, chance.fraction() * self._renown[-1])
            other = min(other, len(self.people) - 1)
            shared = max(self.people[other].interests[topic] for topic in mine)
            if other != person.index and chance.fraction() < shared and len(found) < wanted:
                found.add(other)
        return found

    @cached_property
    def _renown(self) -> list[float]:
        return list(accumulate((1 + person.reach) ** 0.6 for person in self.people))

    def first_followers(self, topics: Sequence[int], share: float) -> list[int]:
        """Those who follow the account from the start: a share of the people, the interested first."""
        interest = self.interest(topics)
        chance = Chance("first followers", self.seed)
        ranked = sorted(range(len(interest)), key=lambda index: chance.fraction() - interest[index])
        return sorted(ranked[: round(share * len(ranked))])


@lru_cache(maxsize=64)
def _attention(population: Population, hour: int) -> list[float]:
    hours = population.hours
    return [hours[(hour + offset_h(person.zone, hour) - person.shift_h) % 24] for person in population.people]


@lru_cache(maxsize=512)
def _mean_attention(population: Population, hour: int) -> float:
    found = (
        population.hours[(hour + offset_h(zone, hour) - shift_h) % 24] * count
        for (zone, shift_h), count in population.days.items()
    )
    return sum(found) / len(population.people)


@lru_cache(maxsize=64)
def _interest(population: Population, topics: tuple[int, ...]) -> list[float]:
    return [sum(person.interests[topic] for topic in topics) / len(topics) for person in population.people]


@lru_cache(maxsize=64)
def _awake(population: Population, hour: int) -> list[float]:
    attention = _attention(population, hour)
    return list(
        accumulate(person.temperament.posts_per_day * attention[person.index] for person in population.people)
    )
