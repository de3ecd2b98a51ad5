"""Text: what X sees in a post: its weighted length, the entities in it, its language, its safe form."""

import functools
import importlib.resources
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

MAX_WEIGHT = 280
MAX_PARSED = 4096  # characters: X takes no longer URL, and a post of several stays below

Kind = Literal["hashtag", "mention", "cashtag"]

# A mark opens an entity only at a word's start: `a@b.c` mentions nobody, `x#y` tags nothing.
_MARKS: dict[Kind, re.Pattern[str]] = {
    "mention": re.compile(
        r"(?<![A-Za-z0-9_@\uff20#$%&*!/])[@\uff20]([A-Za-z0-9_]{1,20})(?![A-Za-z0-9_@\uff20]|://)"
    ),
    "hashtag": re.compile(r"(?<![\w&/#\uff03])[#\uff03](?!\ufe0f|\u20e3)(\w*[^\W\d_]\w*)(?![#\uff03]|://)"),
    "cashtag": re.compile(r"(?<![\w$#@])\$([A-Za-z]{1,6}(?:[._][A-Za-z]{1,2})?)(?![\w$])"),
}
_BASIC_LETTERS = re.compile("[A-Za-z]")
_CHAIN = re.compile(r"(?:[^\s./]{1,63}\.){60}")
_HOST_DOT = re.compile(r"\.\S")  # every host has one; most texts have only full stops
_RETWEET = re.compile(r"RT @\w{1,20}:? ")


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A mention, hashtag or cashtag: `name` without its sign; `start`, `end` count code points."""

    kind: Kind
    name: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Link:
    """A URL in a text; `start`, `end` count code points."""

    url: str
    start: int
    end: int


@functools.cache
def _twitter_text() -> Any:
    """twitter-text-parser, imported at its first use: it compiles regular expressions for half a second.

    It reads one data file through `pkg_resources`. setuptools ships that module no longer (since 82),
    so for the moment of the import a stand-in gives the one function that is used. A real one, where
    something loaded it already, stays in place.
    """
    stand_in = ModuleType("pkg_resources")

    def resource_string(module: str, name: str) -> bytes:
        return importlib.resources.files(module.rpartition(".")[0]).joinpath(name).read_bytes()

    stand_in.__dict__["resource_string"] = resource_string
    added = sys.modules.setdefault("pkg_resources", stand_in) is stand_in
    try:
        return importlib.import_module("twitter_text")
    finally:
        if added:
            del sys.modules["pkg_resources"]


def _defies_parsing(text: str) -> bool:
    """Whether the parser would need seconds: its time grows with the cube of a chain like `a.a.a.a`.

    Such a text beyond 280 characters is none that X would take: no host has so many labels.
    """
    return len(text) > MAX_WEIGHT and (len(text) > MAX_PARSED or _CHAIN.search(text) is not None)


def weight(text: str) -> int:
    """The length that X counts against `MAX_WEIGHT`: 23 a URL, 2 a wide character or emoji, 1 otherwise."""
    return len(text) if _defies_parsing(text) else int(_twitter_text().parse_tweet(text).weightedLength)


def has_forbidden_character(text: str) -> bool:
    """Whether the text holds a character that X refuses: U+FFFE, U+FEFF, U+FFFF or half a surrogate pair."""
    return any(character in "\ufffe\ufeff\uffff" or "\ud800" <= character <= "\udfff" for character in text)


@functools.lru_cache(maxsize=4096)
def links(text: str) -> tuple[Link, ...]:
    """The URLs in a text, in order."""
    if not _HOST_DOT.search(text) or _defies_parsing(text):
        return ()
    found = _twitter_text().extract_urls_with_indices(text)
    return tuple(Link(url=str(u["url"]), start=u["indices"][0], end=u["indices"][1]) for u in found)


def entities(text: str, kind: Kind) -> list[Entity]:
    """The mentions, hashtags or cashtags in a text, in order."""
    return [
        Entity(kind=kind, name=match[1], start=match.start(), end=match.end())
        for match in _MARKS[kind].finditer(text)
    ]


def names(text: str, kind: Kind) -> list[str]:
    """The names of the mentions, hashtags or cashtags in a text, in order, without their sign."""
    return _MARKS[kind].findall(text)


def is_retweet(text: str) -> bool:
    """Whether the text is a retweet's: archives and old exports know them only by `RT @name:`."""
    return text.startswith("RT @") and _RETWEET.match(text) is not None


def language(text: str) -> str:
    """A post's language where its source names none: `en` for mostly basic Latin letters, else `und`."""
    basic = len(_BASIC_LETTERS.findall(text))
    others = 0 if text.isascii() else sum(one.isalpha() and not one.isascii() for one in text)
    return "en" if basic > others * 9 else "und"


def escaped(text: str) -> str:
    """The text as X's reads give it: `&`, `<` and `>` as HTML references, quotes as they are."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescaped(text: str) -> str:
    """The text behind `escaped`; one pass, so that `&amp;lt;` becomes `&lt;`."""
    return re.sub(r"&(amp|lt|gt);", lambda match: {"amp": "&", "lt": "<", "gt": ">"}[match[1]], text)
