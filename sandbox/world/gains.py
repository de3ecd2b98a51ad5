"""Gains: what people's own posts gain, by a cheaper law: their followers are a crowd of average people."""

from sandbox.world.chance import Table
from sandbox.world.law import Law
from sandbox.world.people import Person
from sandbox.world.population import Population
from sandbox.world.reaction import Counts
from sandbox.world.traits import Traits


def gains(
    law: Law, population: Population, person: Person, *, post_id: int, at_ms: int, traits: Traits, now_ms: int
) -> Counts:
    """What a post of a person has gained by a time: a later reading is never smaller.

    Args:
        law: The law.
        population: Everybody.
        person: The author.
        post_id: The post, to which its random numbers belong.
        at_ms: When it was published, in milliseconds since 1970.
        traits: What the law sees in it; of the topics it makes no use.
        now_ms: The time of the reading.
    """
    luck, mood, *rest = Table("gains", population.seed, post_id).row(person.index)
    readers = person.reach * law.others.open_rate + law.others.strangers
    impressions = readers * population.mean_attention(at_ms) * law.seen(traits) * law.crowd_noise(luck)
    keen = impressions * law.fits(law.others.interest) * law.noise(mood)
    acts = law.acts(traits)
    by_now = law.seen_by((now_ms - at_ms) / 1000)

    def count(most: float, fraction: float) -> int:
        # What is left over after the whole ones comes with its own probability: small counts are fair too.
        return int(int(most + fraction) * by_now)

    return Counts(
        impressions=count(impressions, rest[0]),
        likes=count(keen * acts["like"], rest[1]),
        replies=count(keen * acts["reply"], rest[2]),
        reposts=count(keen * acts["repost"], rest[3]),
        quotes=count(keen * acts["quote"], rest[4]),
        bookmarks=count(keen * acts["bookmark"], rest[5]),
    )
