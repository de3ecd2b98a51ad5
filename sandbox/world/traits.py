"""Traits: what the law sees in a text: its topics, length, format, link, hashtags and how new it is."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from sandbox.world import phrases

Answers = Literal["reply", "quote"]
Format = Literal["plain", "question", "list", "shout", "quote", "reply"]

SHOUTED = 10  # letters: a shorter text in capitals is a name or an abbreviation

_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
_MENTION = re.compile(r"@\w+")
_TAG = re.compile(r"(?<![\w&])#\w*[^\W\d_]\w*")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+\S", re.MULTILINE)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the law knows of a post.

    Attributes:
        topics: Their numbers; none where none is recognised.
        length: Characters, without links and mentions.
        format: What kind of text it is.
        link: Whether it has a link.
        tags: How many hashtags it has.
        similarity: To the most similar of the author's recent posts, 0 to 1.
    """

    topics: tuple[int, ...]
    length: int
    format: Format
    link: bool = False
    tags: int = 0
    similarity: float = 0.0


def read(text: str, *, answers: Answers | None = None, earlier: Iterable[frozenset[str]] = ()) -> Traits:
    """The traits of any text.

    Args:
        text: What somebody wrote.
        answers: Whether the post replies to another one or quotes it.
        earlier: The `words` of the author's recent posts.
    """
    return replace(
        shape(text, answers=answers), topics=topics(text), similarity=similarity(words(text), earlier)
    )


def shape(text: str, *, answers: Answers | None = None) -> Traits:
    """The traits that show without reading: neither topics nor similarity, at a tenth of the cost."""
    bare = _MENTION.sub("", _LINK.sub("", text)).strip()
    return Traits(
        topics=(),
        length=len(bare),
        format=answers or _format(bare),
        link=_LINK.search(text) is not None,
        tags=len(_TAG.findall(text)),
    )


@functools.lru_cache(maxsize=4096)
def topics(text: str) -> tuple[int, ...]:
    """The topics of which a text has the most different words."""
    lower = text.lower()
    found = [len(set(pattern.findall(lower))) for pattern in _patterns()]
    most = max(found)
    return tuple(topic for topic, count in enumerate(found) if count == most) if most else ()


def words(text: str) -> frozenset[str]:
    """The words of a text, as similarity compares them: links and mentions are none."""
    return frozenset(_WORD.findall(_MENTION.sub("", _LINK.sub("", text)).lower()))


def similarity(mine: frozenset[str], others: Iterable[frozenset[str]]) -> float:
    """The greatest share of common words (Jaccard) that a text has with one of the others; 0 to 1."""
    return max((len(mine & other) / (len(mine | other) or 1) for other in others), default=0.0)


@functools.cache
def _patterns() -> list[re.Pattern[str]]:
    return [
        re.compile(r"\b(?:" + "|".join(map(re.escape, {*topic.words, topic.tag[1:]})) + r")\b")
        for topic in phrases.topics()
    ]


def _format(text: str) -> Format:
    letters = sum(map(str.isalpha, text))
    if letters > SHOUTED and sum(map(str.isupper, text)) * 2 > letters:
        return "shout"
    if "\n" in text and len(_ITEM.findall(text)) >= 2:  # noqa: PLR2004 - one item is no list
        return "list"
    return "question" if "?" in text else "plain"
