"""Past: what people said in the days before the world begins."""

from collections import deque
from collections.abc import Iterator
from itertools import accumulate

from sandbox.world.chance import Chance
from sandbox.world.people import Person
from sandbox.world.population import HOUR_MS, Population, offset_h
from sandbox.world.speech import Heard, Site, Speaker, Utterance

DAYS = 7
HEARD = 200  # recent posts that somebody could answer


def past(population: Population, site: Site, *, count: int, end_ms: int) -> Iterator[Utterance]:
    """`count` posts of the `DAYS` before `end_ms` (milliseconds since 1970), oldest first."""
    chance = Chance("past", population.seed, count)
    speaker = Speaker(site)
    recent: deque[Heard] = deque(maxlen=HEARD)
    for at_ms, index in sorted(_turns(chance, population, count, end_ms)):
        person = population.people[index]
        said = speaker.say(chance, person, at_ms, recent)
        if said.reply_to is None and said.repost_of is None:
            recent.append(heard(said, person))
        yield said


def heard(said: Utterance, person: Person) -> Heard:
    """What others hear of it."""
    return Heard(
        id=said.id,
        username=person.username,
        text=said.text,
        topic=said.topic,
        conversation=said.conversation,
    )


def _turns(chance: Chance, population: Population, count: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """When who speaks: the busy more often, everybody at their own waking hours."""
    busy = list(accumulate(person.temperament.posts_per_day for person in population.people))
    first_hour = end_ms // HOUR_MS - DAYS * 24
    days: dict[tuple[str, int], list[float]] = {}
    for _ in range(count):
        index = chance.weighed(busy)
        person = population.people[index]
        day = days.get((person.zone, person.shift_h))
        if day is None:
            day = days[person.zone, person.shift_h] = list(
                accumulate(
                    population.hours[(hour + offset_h(person.zone, hour) - person.shift_h) % 24]
                    for hour in range(first_hour, first_hour + DAYS * 24)
                )
            )
        # Counted back from the end, so that the past reaches up to the moment at which the world begins.
        hours_ago = DAYS * 24 - chance.weighed(day) - chance.fraction()
        yield end_ms - max(1, int(hours_ago * HOUR_MS)), index
