"""Who lives in the world: the same people from the same seed, everywhere."""

import hashlib
import re
from zoneinfo import ZoneInfo

import pytest

from sandbox.world import law as laws
from sandbox.world import people as persons
from sandbox.world import phrases
from sandbox.world.population import Population

LAW = laws.default()
FLEET_TOPICS = ("open source", "remote work", "coffee", "city cycling", "good books")


def population(count: int = 300, seed: str = "1", taken: str = "fleet") -> Population:
    return Population.make(seed, count, taken=taken, most=LAW.most, hours=LAW.hours)


def test_a_seed_makes_the_same_people_on_every_python_and_machine() -> None:
    found = repr(persons.people("1", 20, taken="fleet", most=2.5))
    assert hashlib.sha256(found.encode()).hexdigest()[:16] == "9c734e1ecf8428b0"
    assert found != repr(persons.people("2", 20, taken="fleet", most=2.5))


def test_a_greater_world_begins_with_the_same_people() -> None:
    assert population(40).people == population(90).people[:40]


def test_everybody_has_a_name_of_their_own_that_a_platform_would_take() -> None:
    crowd = population(3000)
    names = [person.username for person in crowd.people]
    assert len({name.lower() for name in names}) == 3000
    assert all(re.fullmatch(r"[A-Za-z0-9_]{3,15}", name) for name in names)
    first = names[0]
    assert first.lower() not in {person.username.lower() for person in population(30, taken=first).people}


def test_every_zone_is_known_and_the_interests_are_those_of_the_topics() -> None:
    assert all(ZoneInfo(zone) for zone in persons.ZONES)
    assert tuple(topic.name for topic in phrases.topics())[:5] == FLEET_TOPICS
    for person in population().people:
        assert len(person.interests) == len(phrases.topics())
        assert all(0 < interest <= 1 for interest in person.interests)
        assert person.interests[person.favourite] > 0.4


def test_some_misbehave_some_speak_another_language_and_some_want_no_answer() -> None:
    crowd = population(400).people
    kinds = [person.kind for person in crowd]
    assert all(3 <= kinds.count(kind) <= 40 for kind in ("spammer", "sloppy", "foreign"))
    assert {person.language for person in crowd} == {"en", *phrases.languages()}
    assert 5 <= sum(person.shy for person in crowd) <= 60


def test_a_few_have_most_of_the_followers() -> None:
    reach = sorted((person.reach for person in population(1000).people), reverse=True)
    assert sum(reach[:100]) > sum(reach) * 0.5
    assert reach[500] < reach[0] / 100


def test_nobody_is_more_eager_than_the_law_allows() -> None:
    for person in population(1000).people:
        eager = vars(person.temperament)
        assert all(0 < eager[act] <= LAW.most for act in laws.ACTS)


def test_people_follow_those_they_share_an_interest_with_and_the_known_more_than_the_unknown() -> None:
    crowd = population(400)
    follows = crowd.follows()
    assert len(set(follows)) == len(follows) > 1000
    followers = [0] * 400
    for one, other in follows:
        assert one != other
        first, second = crowd.people[one].interests, crowd.people[other].interests
        assert any(mine > 0.1 and theirs > 0.01 for mine, theirs in zip(first, second, strict=True))
        followers[other] += 1
    known = sorted(range(400), key=lambda index: -crowd.people[index].reach)
    assert sum(followers[index] for index in known[:40]) > 3 * sum(followers[index] for index in known[-40:])


@pytest.mark.parametrize("count", [1, 2])
def test_a_world_may_be_tiny(count: int) -> None:
    crowd = population(count)
    assert len(crowd.follows()) <= count
    assert len(crowd.first_followers((0,), 0.25)) <= count
