"""Phrases: what people talk about, and the rules that join phrases into texts; see `phrases.toml`."""

import functools
import importlib.resources
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, NamedTuple

from sandbox.world.chance import Chance


@dataclass(frozen=True, kw_only=True, eq=False)
class Topic:
    """Something to talk about; each is one object, compared by identity.

    Attributes:
        name: As people call it; most texts about it hold this name or one of `words`.
        popularity: How likely people are interested in it, against the other topics.
        words: What recognises the topic in any text, in lower case.
        things: Noun phrases.
        doings: Gerund phrases.
        finds: Clauses that claim something.
        questions: Questions without their mark.
    """

    name: str
    popularity: float
    words: tuple[str, ...]
    things: tuple[str, ...]
    doings: tuple[str, ...]
    finds: tuple[str, ...]
    questions: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The topic's hashtag."""
        return "#" + self.name.replace(" ", "")


def source() -> bytes:
    """The file of phrases as it is: another content makes another world."""
    return importlib.resources.files("sandbox.world").joinpath("phrases.toml").read_bytes()


@functools.cache
def _words() -> dict[str, Any]:
    return tomllib.loads(source().decode())


@functools.cache
def topics() -> tuple[Topic, ...]:
    """Everything to talk about; a topic's index here is its number everywhere."""
    return tuple(
        Topic(
            name=name,
            popularity=float(one["popularity"]),
            words=tuple(one["words"]),
            things=tuple(one["things"]),
            doings=tuple(one["doings"]),
            finds=tuple(one["finds"]),
            questions=tuple(one["questions"]),
        )
        for name, one in _words()["topics"].items()
    )


def listed(name: str) -> list[str]:
    """A list of phrases that belongs to no topic, such as `names`."""
    found: list[str] = _words()[name]
    return found


def languages() -> list[str]:
    """The languages besides English, as codes."""
    return list(_words()["languages"])


def foreign(chance: Chance, language: str) -> str:
    """A short text in another language than English."""
    parts: dict[str, list[str]] = _words()["languages"][language]
    opener, body, closer = (chance.pick(parts[name]) for name in ("openers", "bodies", "closers"))
    return f"{opener} {body}. {closer}"


def to_all(chance: Chance, kind: str, topic: Topic, **given: str) -> str:
    """A text for everybody: `kind` is a rule such as `plain`; `given` has what the rule can't invent."""
    return _joined(chance, "to_all", kind, topic, given)


def to_account(chance: Chance, kind: str, topic: Topic, **given: str) -> str:
    """A text that concerns the account; `given` has its name with the @ as `account`."""
    return _joined(chance, "to_account", kind, topic, given)


# Where a rule's word comes from: the topic's own phrases, or everybody's.
_OF_TOPIC: dict[str, Callable[[Topic], Sequence[str]]] = {
    "thing": lambda topic: topic.things,
    "doing": lambda topic: topic.doings,
    "find": lambda topic: topic.finds,
    "question": lambda topic: topic.questions,
}
_OF_ALL = {
    "opener": "openers",
    "closer": "closers",
    "when": "whens",
    "span": "spans",
    "verdict": "verdicts",
    "prompt": "prompts",
    "agreement": "agreements",
    "take": "takes",
    "name": "names",
    "place": "places",
    "self": "selves",
}
_CAPITAL = "_cap"
_NUMBERS = tuple(str(number) for number in range(1000))


class _Part(NamedTuple):
    """A piece of a rule: text as it stands, then one of some phrases, or something given."""

    text: str
    phrases: tuple[str, ...]
    given: str | None


@functools.cache
def _rules(audience: str, kind: str, topic: Topic) -> list[list[_Part]]:
    """The rules of a kind, read for one topic."""
    rules: list[str] = _words()[audience][kind]
    return [[_part(*found[:2], topic) for found in Formatter().parse(rule)] for rule in rules]


def _part(text: str, word: str | None, topic: Topic) -> _Part:
    if word is None:
        return _Part(text, (), None)
    name = word.removesuffix(_CAPITAL)
    if name in _OF_TOPIC:
        found = tuple(_OF_TOPIC[name](topic))
    elif name in _OF_ALL:
        found = tuple(listed(_OF_ALL[name]))
    else:
        own = {"topic": (topic.name,), "tag": (topic.tag,), "number": _NUMBERS}
        found = own.get(name, ())
    if name != word:
        found = tuple(one[0].upper() + one[1:] for one in found)
    return _Part(text, found, None if found else name)


def _joined(chance: Chance, audience: str, kind: str, topic: Topic, given: dict[str, str]) -> str:
    fraction = chance.fraction
    rules = _rules(audience, kind, topic)
    said: list[str] = []
    for text, phrases, name in rules[int(fraction() * len(rules))]:
        if text:
            said.append(text)
        if phrases:
            count = len(phrases)
            phrase = phrases[int(fraction() * count)]
            while phrase in said and count > len(said):  # nobody says a thing twice in one text
                phrase = phrases[int(fraction() * count)]
            said.append(phrase)
        elif name is not None:
            said.append(given[name])
    return "".join(said)
