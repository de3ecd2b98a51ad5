"""Life: what people say while time passes, minute by minute, to each other and to the account.

A minute's events follow from the seed, the minute's number and what had been said before it began, and from
nothing else: whoever asks twice, or after a crash, is told the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.world import phrases, speech
from sandbox.world.chance import Chance
from sandbox.world.people import Person
from sandbox.world.population import Population
from sandbox.world.reaction import Deed
from sandbox.world.speech import Heard, Utterance

SLOT_MS = 60_000
DAY_SLOTS = 1440
MANY = 30.0  # an expected number from which on Poisson's distribution is as good as normal

# Which mentions come, in a fixed order: any ten turns hold each kind at least once.
DECK = (
    "question",
    "check_out",
    "question",
    "indirect",
    "remark",
    "opt_out",
    "question",
    "quote",
    "chain",
    "remark",
)
HOME_TOPICS = 5  # the first topics: what the account is asked about until it has talked itself


@dataclass(frozen=True, kw_only=True)
class Said:
    """What had been said when a minute began, each oldest first.

    Attributes:
        heard: Other people's posts that are no answers and don't mention the account.
        mentions: Other people's posts that mention the account.
        own: The account's posts that are no answers.
    """

    heard: Sequence[Heard]
    mentions: Sequence[Heard]
    own: Sequence[Heard]


@dataclass(frozen=True, kw_only=True, eq=False)
class Life:
    """How the people of a world live.

    Attributes:
        population: Who they are.
        account: The username of the account for which the world is there.
        link: The address of a post, from its author's username and its id.
        posts_per_day: How much they say to each other.
        mentions_per_hour: How often one of them addresses or names the account; its own posts aside.
    """

    population: Population
    account: str
    link: Callable[[str, int], str]
    posts_per_day: float
    mentions_per_hour: float

    def slot(self, number: int, said: Said) -> list[Utterance]:
        """Everything that is said in a minute, counted since 1970, in the order of time."""
        return sorted(
            [*self._talk(number, said.heard), *self._mentions(number, said)], key=lambda one: one.at_ms
        )

    def answer(self, own: Heard, deed: Deed, act: str) -> Utterance:
        """The words of somebody who replies to a post of the account, or quotes it, by the law."""
        chance = Chance("answer", self.population.seed, own.id, deed.person, act)
        person = self.population.people[deed.person]
        rule = "opt_out" if person.shy and act == "reply" else act
        topic = own.topic if own.topic >= 0 else person.favourite
        text = self._text(chance, rule, topic)
        if act == "quote":
            return speech.utter(person, deed.at_ms, text, topic=topic, quote_of=own.id)
        return speech.utter(person, deed.at_ms, text, topic=topic, reply_to=own)

    def _talk(self, number: int, heard: Sequence[Heard]) -> list[Utterance]:
        if not self.posts_per_day:
            return []
        start_ms = number * SLOT_MS
        chance = Chance("talk", self.population.seed, number)
        usual = sum(self.population.hours) / len(self.population.hours)
        mean = self.posts_per_day / DAY_SLOTS * self.population.mean_attention(start_ms) / usual
        awake = self.population.awake(start_ms)
        return [
            speech.say(
                chance,
                self.population.people[chance.weighed(awake)],
                start_ms + chance.below(SLOT_MS),
                heard,
            )
            for _ in range(_poisson(chance, mean))
        ]

    def _mentions(self, number: int, said: Said) -> list[Utterance]:
        if not self.mentions_per_hour:
            return []
        every_ms = 60 * SLOT_MS / self.mentions_per_hour
        start_ms, end_ms = number * SLOT_MS, (number + 1) * SLOT_MS
        found: list[Utterance] = []
        for turn in range(int(start_ms // every_ms), int(end_ms // every_ms) + 1):
            place = turn % len(DECK)
            # A place's moment is always the same: so ten turns' time holds every kind, wherever it begins.
            at_ms = int((turn + Chance("moment", self.population.seed, place).fraction()) * every_ms)
            if start_ms <= at_ms < end_ms:
                chance = Chance("mention", self.population.seed, turn)
                found.append(self._mention(chance, DECK[place], at_ms, said))
        return found

    def _mention(self, chance: Chance, kind: str, at_ms: int, said: Said) -> Utterance:
        person = self._speaker(chance, shy=kind == "opt_out")
        topic = self._topic(chance, said.own)
        if kind == "check_out" and said.heard:
            shown = chance.pick(said.heard)
            topic = shown.topic if shown.topic >= 0 else topic
            text = self._text(chance, kind, topic, link=self.link(shown.username, shown.id))
            return speech.utter(person, at_ms, text, topic=topic)
        if kind == "quote" and said.own:
            text = self._text(chance, kind, topic)
            return speech.utter(person, at_ms, text, topic=topic, quote_of=chance.pick(said.own).id)
        others = [one for one in said.mentions if one.username != person.username]
        if kind == "chain" and others:
            to = chance.pick(others)
            topic = to.topic if to.topic >= 0 else topic
            text = f"@{to.username} @{self.account} {self._text(chance, kind, topic)}"
            return speech.utter(person, at_ms, text, topic=topic, reply_to=to)
        # Without anything to show, quote or answer yet, people ask.
        rule = "question" if kind in {"check_out", "quote", "chain"} else kind
        return speech.utter(person, at_ms, self._text(chance, rule, topic), topic=topic)

    def _speaker(self, chance: Chance, *, shy: bool) -> Person:
        people = self.population.people
        wanted = [person for person in people if person.shy] if shy else []
        return chance.pick(wanted) if wanted else people[chance.weighed(self.population.answerers)]

    def _topic(self, chance: Chance, own: Sequence[Heard]) -> int:
        talked = [post.topic for post in own if post.topic >= 0]
        return chance.pick(talked) if talked else chance.below(HOME_TOPICS)

    def _text(self, chance: Chance, rule: str, topic: int, link: str = "") -> str:
        about = phrases.topics()[topic]
        return phrases.to_account(chance, rule, about, account=f"@{self.account}", link=link)


def _poisson(chance: Chance, mean: float) -> int:
    """How many events there are where `mean` are expected (Knuth's method; normal for many)."""
    if mean > MANY:
        return max(0, round(mean + math.sqrt(mean) * chance.normal()))
    found, product, least = 0, chance.fraction(), math.exp(-mean)
    while product > least:
        found += 1
        product *= chance.fraction()
    return found
