"""Speech: what people say to each other, in the past and as time passes."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from sandbox.world import phrases
from sandbox.world.chance import Chance
from sandbox.world.people import Person

# What somebody who behaves does with a turn: running shares.
KINDS = ("reply", "quote", "repost", "link", "list", "question", "plain")
SHARES = (0.22, 0.30, 0.34, 0.42, 0.50, 0.65, 1.0)
_ANSWERS = frozenset(KINDS[:3])
_TAGGABLE = frozenset(KINDS[3:])
_LINKED = frozenset({"link", "spam", "sloppy"})
TAGGED = 0.25  # of one's own posts have the topic's hashtag
GLANCE = 3  # posts that somebody looks at before answering the one that fits best


# A world begins with 100,000 of these: a tuple is made in a fifth of a frozen dataclass's time.
class Heard(NamedTuple):
    """A post that somebody could answer; `topic` is -1 where none is known."""

    id: int
    username: str
    text: str
    topic: int
    conversation: int


class Utterance(NamedTuple):
    """What somebody said; the platform gives it an id.

    Attributes:
        person: Their number.
        at_ms: When, in milliseconds since 1970.
        text: What.
        language: In which language.
        topic: The topic's number; -1 without one.
        reply_to: The id of the post that it answers.
        quote_of: The id of the post that it quotes.
        repost_of: The id of the post that it repeats.
        conversation: The id of the post that began the conversation; None where this one begins it.
    """

    person: int
    at_ms: int
    text: str
    language: str
    topic: int = -1
    reply_to: int | None = None
    quote_of: int | None = None
    repost_of: int | None = None
    conversation: int | None = None


def say(chance: Chance, person: Person, at_ms: int, recent: Sequence[Heard]) -> Utterance:
    """What somebody says to everybody at a time (ms since 1970), having heard the recent posts."""
    if person.kind == "foreign":
        return utter(person, at_ms, phrases.foreign(chance, person.language))
    kind = KINDS[bisect_right(SHARES, chance.fraction())]
    if person.kind == "spammer":
        kind, topic = "spam", person.favourite  # the same text again and again
    elif person.kind == "sloppy":
        kind, topic = "sloppy", chance.weighed(person.tastes)
    elif kind in _ANSWERS and recent:
        return _answer(chance, person, at_ms, kind, _glance(chance, person, recent))
    else:
        kind = "plain" if kind in _ANSWERS else kind
        topic = chance.weighed(person.tastes)
    about = phrases.topics()[topic]
    link = _page(chance, about.name) if kind in _LINKED else ""
    text = phrases.to_all(chance, kind, about, link=link)
    if kind in _TAGGABLE and chance.happens(TAGGED):
        text += " " + about.tag
    return utter(person, at_ms, text, topic=topic)


def ask(chance: Chance, person: Person, at_ms: int, account: str) -> Utterance:
    """A question to the account about somebody's own favourite topic."""
    about = phrases.topics()[person.favourite]
    text = phrases.to_account(chance, "question", about, account=f"@{account}")
    return utter(person, at_ms, text, topic=person.favourite)


def utter(
    person: Person,
    at_ms: int,
    text: str,
    *,
    topic: int = -1,
    reply_to: Heard | None = None,
    quote_of: int | None = None,
    repost_of: int | None = None,
) -> Utterance:
    """Somebody's text; an answer stays in the conversation of the post that it answers."""
    # By position, in the order of the class: 100,000 times, names cost as much as the tuple.
    if reply_to is None:
        return Utterance(person.index, at_ms, text, person.language, topic, None, quote_of, repost_of, None)
    return Utterance(
        person.index,
        at_ms,
        text,
        person.language,
        topic,
        reply_to.id,
        quote_of,
        repost_of,
        reply_to.conversation,
    )


def _answer(chance: Chance, person: Person, at_ms: int, kind: str, heard: Heard) -> Utterance:
    if kind == "repost":
        text = f"RT @{heard.username}: {heard.text}"
        return utter(person, at_ms, text, topic=heard.topic, repost_of=heard.id)
    topic = heard.topic if heard.topic >= 0 else person.favourite
    text = phrases.to_all(chance, kind, phrases.topics()[topic])
    if kind == "quote":
        return utter(person, at_ms, text, topic=topic, quote_of=heard.id)
    return utter(person, at_ms, f"@{heard.username} {text}", topic=topic, reply_to=heard)


def _glance(chance: Chance, person: Person, recent: Sequence[Heard]) -> Heard:
    """The post that fits somebody best among a few."""
    seen = [chance.pick(recent) for _ in range(GLANCE)]
    return max(seen, key=lambda heard: person.interests[heard.topic] if heard.topic >= 0 else 0.0)


def _page(chance: Chance, topic: str) -> str:
    """An address that leads nowhere: the domain is reserved for examples (RFC 2606)."""
    return f"https://example.org/{topic.replace(' ', '-')}/{chance.below(100_000)}"
