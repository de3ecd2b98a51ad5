"""Gains: what people's own posts gain, by a cheaper law: their followers are a crowd of average people."""

import functools

from sandbox.world.chance import Table
from sandbox.world.law import ACTS, Law
from sandbox.world.people import Person
from sandbox.world.population import Population
from sandbox.world.reaction import Counts
from sandbox.world.traits import Format, Traits


def most(
    law: Law, population: Population, person: Person, *, post_id: int, at_ms: int, traits: Traits
) -> Counts:
    """What a post of a person gains in the end.

    Args:
        law: The law.
        population: Everybody.
        person: The author.
        post_id: The post, to which its random numbers belong.
        at_ms: When it was published, in milliseconds since 1970.
        traits: What the law sees in it; of the topics it makes no use.
    """
    luck, mood, *rest = Table("gains", population.seed, post_id).row(person.index)
    seen, acts = _shaped(law, traits.format, traits.link, traits.tags)
    readers = person.reach * law.others.open_rate + law.others.strangers
    impressions = readers * population.mean_attention(at_ms) * seen * law.crowd_noise(luck)
    keen = impressions * law.fits(law.others.interest) * law.long(traits.length) * law.noise(mood)
    # What is left over after the whole ones comes with its own probability: small counts are fair too.
    return Counts(
        impressions=int(impressions + rest[0]),
        likes=int(keen * acts["like"] + rest[1]),
        replies=int(keen * acts["reply"] + rest[2]),
        reposts=int(keen * acts["repost"] + rest[3]),
        quotes=int(keen * acts["quote"] + rest[4]),
        bookmarks=int(keen * acts["bookmark"] + rest[5]),
    )


def by(law: Law, gained: Counts, age_ms: int) -> Counts:
    """How much of that is there at an age: a later reading is never smaller."""
    share = law.seen_by(age_ms / 1000)
    return Counts(
        impressions=int(gained.impressions * share),
        likes=int(gained.likes * share),
        replies=int(gained.replies * share),
        reposts=int(gained.reposts * share),
        quotes=int(gained.quotes * share),
        bookmarks=int(gained.bookmarks * share),
    )


@functools.lru_cache(maxsize=256)
def _shaped(law: Law, form: Format, link: bool, tags: int) -> tuple[float, dict[str, float]]:
    """What a post's shape does to being seen, and to each act of one who saw it; its length aside."""
    traits = Traits(topics=(), length=round(law.length.best), format=form, link=link, tags=tags)
    acts = law.acts(traits)
    best = law.long(traits.length)
    return law.seen(traits), {act: acts[act] / best for act in ACTS}
