"""Policy: what a way of posting is worth under the law, exactly; and which one is worth the most."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from sandbox.world import phrases
from sandbox.world.law import ACTS, Law
from sandbox.world.population import HOUR_MS, Population
from sandbox.world.reaction import interest_in
from sandbox.world.traits import Format, Traits

DAY_MS = 24 * HOUR_MS
CHOICES: tuple[Format, ...] = ("plain", "question", "list")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A way of posting: `hour` is UTC's, `length` in characters; what is said is always new."""

    topic: str
    hour: int
    length: int
    format: Format
    link: bool = False

    def traits(self) -> Traits:
        """What the law sees in such a post."""
        names = [topic.name for topic in phrases.topics()]
        return Traits(
            topics=(names.index(self.topic),), length=self.length, format=self.format, link=self.link
        )


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a post gains on average in the end; `engagement` weighs the acts by the law's `worth`."""

    impressions: float
    likes: float
    replies: float
    reposts: float
    quotes: float
    bookmarks: float
    follows: float
    engagement: float


def expected(
    law: Law, population: Population, traits: Traits, *, at_ms: int, followers: Collection[int]
) -> Expected:
    """What a post gains on average: the sum over readers of the law's products.

    Args:
        law: The law.
        population: The readers.
        traits: The post.
        at_ms: When it is published.
        followers: Who follows the account then.
    """
    readers = _readers(law, population, traits, at_ms=at_ms, followers=followers)
    return _expected(law, readers, traits)


def _readers(
    law: Law, population: Population, traits: Traits, *, at_ms: int, followers: Collection[int]
) -> dict[str, float]:
    """The part of the products that depends on the reader, summed: it knows of the post its topics only."""
    following = set(followers)
    reach = law.reach(len(following), len(population.people))
    attention = population.attention(at_ms)
    interests = interest_in(law, population, traits)
    sums: dict[str, float] = dict.fromkeys(("see", *ACTS), 0.0)
    for person in population.people:
        interest = interests[person.index]
        follows = person.index in following
        sees = law.channel(follows=follows, interest=interest, reach=reach) * attention[person.index]
        sums["see"] += sees
        keen = sees * law.fits(interest)
        for act in ACTS:
            if act != "follow" or not follows:
                sums[act] += keen * getattr(person.temperament, act)
    return sums


def _expected(law: Law, readers: dict[str, float], traits: Traits) -> Expected:
    seen = law.seen(traits)
    gains = {act: readers[act] * seen * chance for act, chance in law.acts(traits).items()}
    return Expected(
        impressions=readers["see"] * seen,
        likes=gains["like"],
        replies=gains["reply"],
        reposts=gains["repost"],
        quotes=gains["quote"],
        bookmarks=gains["bookmark"],
        follows=gains["follow"],
        engagement=sum(law.worth.of(act) * gain for act, gain in gains.items()),
    )


def of(
    law: Law, population: Population, policy: Policy, *, day_ms: int, followers: Collection[int]
) -> Expected:
    """What a policy gains with each post; `day_ms` is any moment of the (UTC) day, for summer time's sake."""
    at_ms = day_ms - day_ms % DAY_MS + policy.hour * HOUR_MS
    return expected(law, population, policy.traits(), at_ms=at_ms, followers=followers)


def best(law: Law, population: Population, *, day_ms: int, followers: Collection[int]) -> Policy:
    """The policy with the greatest expected engagement, among every topic, hour, format, link or none.

    The best length is the law's own: its factor stands alone in every product.
    """
    found = Policy(topic=phrases.topics()[0].name, hour=0, length=round(law.length.best), format="plain")
    most = -1.0
    for topic in phrases.topics():
        for hour in range(24):
            at_ms = day_ms - day_ms % DAY_MS + hour * HOUR_MS
            plain = replace(found, topic=topic.name, hour=hour, format="plain", link=False)
            readers = _readers(law, population, plain.traits(), at_ms=at_ms, followers=followers)
            for form in CHOICES:
                for link in (False, True):
                    policy = replace(plain, format=form, link=link)
                    worth = _expected(law, readers, policy.traits()).engagement
                    if worth > most:
                        most, found = worth, policy
    return found
