"""Wording: what a post says, without its links and names; its words, and their stems."""

import html
import re
import unicodedata
from collections.abc import Sequence

LINK = re.compile(r"\bhttps?://\S+|\bwww\.\S+", re.IGNORECASE)
MENTION = re.compile(r"(?<!\w)[@\uff20]\w+")
TAG = re.compile(r"(?<!\w)[#\uff03$](\w+)")
REPOST = re.compile(r"^\s*RT\s+(?=[@\uff20])")
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
SHORTEST_STEM = 3
"""Letters that an ending must leave: "ring" is no "r", "bus" no "b"."""
ENDINGS = ("ing", "ed", "es", "s")
DOUBLED = re.compile(r"([b-df-hj-np-rtv-xz])\1$")
"""The consonant that an ending doubled: planning, planned. Not l, s: they stand doubled in words too."""


def prose(text: str) -> str:
    """The text without links, mentions, tags and the mark of an old-style repost; single spaces."""
    return _squeezed(TAG.sub(" ", _without_addresses(text)))


def canonical(text: str) -> str:
    """The form in which two posts that say the same are equal: without links, names, signs and case."""
    folded = unicodedata.normalize("NFKC", TAG.sub(r"\1", _without_addresses(text))).casefold()
    return _squeezed("".join(letter if letter.isalnum() else " " for letter in folded))


def stems(text: str) -> Sequence[str]:
    """The stem of each word in its order; a tag counts as a word."""
    folded = unicodedata.normalize("NFKC", _without_addresses(text)).casefold()
    return [_stem(word) for word in WORD.findall(folded)]


def _without_addresses(text: str) -> str:
    return MENTION.sub(" ", LINK.sub(" ", REPOST.sub("", html.unescape(text))))


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _stem(word: str) -> str:
    """A crude English stem: gardens, gardening and gardened come to garden; berries to berry."""
    word = re.sub(r"['\u2019].*", "", word)
    if word.endswith("ies") and len(word) - 2 > SHORTEST_STEM:
        return word[:-3] + "y"
    if word.endswith("ss"):
        return word
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            word = word[: -len(ending)]
            word = DOUBLED.sub(r"\1", word) if ending in {"ing", "ed"} else word
            break
    return word[:-1] if word.endswith("e") and len(word) > SHORTEST_STEM else word
