"""Past: what people said in the days before the world begins."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import accumulate

from sandbox.world import speech
from sandbox.world.chance import Chance
from sandbox.world.population import HOUR_MS, Population, offset_h
from sandbox.world.speech import Heard, Utterance

DAYS = 7
ASKED = 0.004  # share of the posts that addressed the account
HEARD = 200  # recent posts that somebody could answer

Identify = Callable[[int, int], int]
"""The platform's id for a post made at a time (ms since 1970), above the id given last."""


def past(
    population: Population, identify: Identify, *, count: int, end_ms: int, account: str
) -> Iterator[tuple[int, Utterance]]:
    """`count` posts with their ids, of the `DAYS` before `end_ms` (ms since 1970), oldest first.

    A few of them asked the account something, long before it could answer.
    """
    chance = Chance("past", population.seed, count)
    recent: deque[Heard] = deque(maxlen=HEARD)
    last_id = 0
    for at_ms, index in sorted(_turns(chance, population, count, end_ms)):
        person = population.people[index]
        asks = person.kind == "ordinary" and chance.happens(ASKED)
        if asks:
            said = speech.ask(chance, person, at_ms, account)
        else:
            said = speech.say(chance, person, at_ms, recent)
        last_id = identify(at_ms, last_id)
        if said.reply_to is None and said.repost_of is None and not asks:
            recent.append(Heard(last_id, person.username, said.text, said.topic, last_id))
        yield last_id, said


def _turns(chance: Chance, population: Population, count: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """When who speaks: the busy more often, everybody at their own waking hours."""
    busy = list(accumulate(person.temperament.posts_per_day for person in population.people))
    first_hour = end_ms // HOUR_MS - DAYS * 24
    days = {
        (zone, shift_h): list(
            accumulate(
                population.hours[(hour + offset_h(zone, hour) - shift_h) % 24]
                for hour in range(first_hour, first_hour + DAYS * 24)
            )
        )
        for zone, shift_h in population.days
    }
    day_of = [days[person.zone, person.shift_h] for person in population.people]
    for _ in range(count):
        index = chance.weighed(busy)
        day = day_of[index]
        # Counted back from the end, so that the past reaches up to the moment at which the world begins.
        hours_ago = DAYS * 24 - chance.weighed(day) - chance.fraction()
        yield end_ms - max(1, int(hours_ago * HOUR_MS)), index
